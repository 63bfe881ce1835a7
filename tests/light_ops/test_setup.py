import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    shutil.which('make') is None, reason='needs make')


def plan(goal, tmp_path, **variables):
    """What make would do, where no environment is there yet."""
    done = subprocess.run([
        'make', '-n', goal, f'VENV={tmp_path}/full', f'LIGHT={tmp_path}/light',
        f'MMCOMPRESS_CACHE={tmp_path}', *(f'{key}={value}'
                                          for key, value in variables.items())
    ],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    return done.stdout + done.stderr


def test_demo_compiles_nothing_of_mmcv_on_a_fresh_machine(tmp_path):
    steps = plan('demo', tmp_path)
    assert f'setup_venv.py --light {tmp_path}/light' in steps
    assert f'{tmp_path}/light/bin/python tools/demo.py' in steps
    assert f'{tmp_path}/full' not in steps


@pytest.mark.parametrize('there',
                         ['full/ready', 'wheels/py3/mmcv-2.1.0-cp311.whl'])
def test_demo_takes_the_compiled_mmcv_where_it_is_there(tmp_path, there):
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    assert f'{tmp_path}/full/bin/python tools/demo.py' in plan(
        'demo', tmp_path)
    assert f'{tmp_path}/light/bin/python tools/demo.py' in plan(
        'demo', tmp_path, SETUP='light')


def test_full_is_chosen_by_name(tmp_path):
    steps = plan('demo', tmp_path, SETUP='full')
    assert f'setup_venv.py {tmp_path}/full' in steps and '--light' not in steps


def test_tests_run_on_the_compiled_mmcv(tmp_path):
    assert f'setup_venv.py {tmp_path}/full' in plan('test', tmp_path)
    assert 'only the demo has a light set-up' in plan(
        'test', tmp_path, SETUP='light')


def test_an_unknown_set_up_is_refused(tmp_path):
    assert 'SETUP=tiny: full or light' in plan('demo', tmp_path, SETUP='tiny')
