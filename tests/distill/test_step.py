"""What a training step runs through, which is what its reader reads."""
import sys
from pathlib import Path

import pytest
from distill.models import batch, build, detection_scope, distill

import mmcompress
from mmcompress.distill.first_steps import STEPS

ROOT = Path(mmcompress.__file__).parent


def files_of(function) -> set[str]:
    """Our files of which a call executes a function, by their path."""
    seen = set()

    def note(frame, event, _):
        if event == 'call':
            seen.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return {
        str(Path(file).relative_to(ROOT))
        for file in seen if Path(file).is_relative_to(ROOT)
    }


def num_lines(files) -> int:
    return sum(len((ROOT / file).read_text().splitlines()) for file in files)


@pytest.fixture(scope='module')
def steps():
    """Our files that the first and a later step of FGD run through."""
    loss = dict(
        type='mmcompress.FGDLoss',
        student='neck',
        teacher='neck',
        student_channels=16,
        teacher_channels=16,
        num_levels=5)
    model = build(distill(losses=dict(loss_fgd=loss)))
    model.init_weights()
    data = batch(model)

    def step():
        with detection_scope():
            total, _ = model.parse_losses(model(**data, mode='loss'))
        total.backward()

    first = files_of(step)
    # the last step that is counted
    model.distill.weight_check.num_steps = STEPS[-1] - 1
    step()
    return first, files_of(step)


STEP = {
    'distill/distiller.py', 'distill/losses/checks.py',
    'distill/losses/fgd.py', 'distill/schedule.py', 'distill/taps.py',
    'distill/teacher.py'
}
FIRST = {
    'distill/first_steps.py', 'distill/gradient_norms.py',
    'distill/losses/base.py', 'distill/mode_check.py', 'distill/tap_paths.py',
    'hooks/standard.py'
}


def test_a_step_of_fgd_runs_through_six_files(steps):
    """Whoever wants to follow one reads these."""
    assert steps[1] == STEP


def test_the_first_steps_run_through_six_more(steps):
    """They check what can be checked only then."""
    assert steps[0] == STEP | FIRST


def test_they_are_short_enough_to_be_read(steps):
    assert num_lines(steps[1]) <= 1405
    # the loss, the iteration over levels and the step itself
    core = {'distill/distiller.py', 'distill/losses/fgd.py'}
    assert core < steps[1] and num_lines(core) <= 530
