import importlib.util
import random
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / 'tools' / 'dev' / 'mutate_packed.py'
spec = importlib.util.spec_from_file_location('mutate_packed', TOOL)
mutate_packed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutate_packed)


@pytest.fixture(scope='module')
def trial(tmp_path_factory):
    return mutate_packed.Trial(tmp_path_factory.mktemp('files') / 'a.pth')


@pytest.mark.parametrize('how', range(len(mutate_packed.WRONG)))
def test_what_no_packing_wrote_is_refused(trial, how, monkeypatch):
    # the last of them is allowed to load
    monkeypatch.setattr(mutate_packed, 'WRONG', [mutate_packed.WRONG[how]] * 9)
    for index in range(5):
        outcome, what = trial(random.Random(index), True)
        assert outcome == 'refused' or what.startswith('other_values')


@pytest.mark.slow
@pytest.mark.parametrize('of_values', [False, True], ids=['bytes', 'values'])
def test_no_changed_file_passes_as_good(trial, of_values):
    for index in range(300):
        outcome, what = trial(random.Random(index), of_values)
        assert outcome not in ('silent', 'crash'), (index, what)


def test_a_check_that_is_left_out_is_found(trial, monkeypatch):
    monkeypatch.setattr('mmcompress.deploy.file.record.impossible_value',
                        lambda *args: None)
    monkeypatch.setattr(mutate_packed, 'WRONG',
                        [mutate_packed._impossible_scale])
    monkeypatch.setattr(mutate_packed, 'other_values',
                        mutate_packed._impossible_code)
    outcomes = {trial(random.Random(i), True)[0] for i in range(8)}
    assert 'silent' in outcomes
