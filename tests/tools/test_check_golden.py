import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import golden
import numpy as np
import pytest
import torch

import mmcompress.compat  # noqa: F401

TOOL = Path(__file__).parents[2] / 'tools' / 'dev' / 'check_golden.py'
META = dict(schema=1, kind='', rtol=1e-7, atol=1e-10)
KL = dict(type='KLDivergence', tau=1.0, loss_weight=1.0)


@pytest.fixture
def check(monkeypatch, capsys):
    """Run the tool: its exit code and the lines it printed."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    spec = importlib.util.spec_from_file_location('check_golden', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
        code = module.main()
        return code, capsys.readouterr().out.splitlines()

    return run


def write(folder, name, expected=0.0, gradient=0.0, hyper=KL, **meta):
    """A fixture of two equal tensors, so that the loss is 0."""
    logits = np.arange(6.0).reshape(2, 3)
    np.savez(
        folder / f'{name}.npz', **{
            'in/preds_S': logits,
            'in/preds_T': logits,
            'out/loss': np.array(expected),
            'grad/preds_S': np.full((2, 3), gradient),
            'meta': json.dumps({
                **META, 'hyper': hyper,
                **meta
            })
        })


def test_passes_on_what_agrees(check, tmp_path):
    write(tmp_path, 'kd__a')
    write(tmp_path, 'kd__b')
    code, lines = check(tmp_path)
    assert code == 0
    assert [line.split()[0] for line in lines[:2]] == ['ok', 'ok']
    assert lines[0].endswith('kd__a') and lines[1].endswith('kd__b')
    assert lines[2:] == ['2 passed, 0 failed, 0 without adapter']


def test_one_failure_is_exit_code_1(check, tmp_path):
    write(tmp_path, 'kd__good')
    write(tmp_path, 'kd__wrong', expected=1.0)
    code, lines = check(tmp_path)
    assert code == 1
    assert lines[-1] == '1 passed, 1 failed, 0 without adapter'
    # off by 1, allowed is 1e-7 + 1e-10; and what is wrong
    status, error, *rest = lines[1].split()
    assert status == 'FAIL' and rest == ['kd__wrong:', 'out/loss']
    assert float(error) == pytest.approx(1 / (1e-7 + 1e-10), rel=1e-2)


def test_the_error_is_divided_by_the_tolerance(check, tmp_path):
    write(tmp_path, 'kd__loose', expected=1.0, rtol=2.0, atol=1e-9)
    code, lines = check(tmp_path)
    assert code == 0
    assert lines[0].split() == ['ok', '0.5', 'kd__loose']


def test_more_than_the_tolerance_fails_by_the_worst_array(check, tmp_path):
    # off by 1 and 2, allowed are 0.9 and 1.8; then 0 and 2
    write(tmp_path, 'kd__a', 1.0, 2.0, rtol=0.9, atol=0.0)
    write(tmp_path, 'kd__b', 0.0, 2.0, rtol=0.5, atol=0.5)
    _, lines = check(tmp_path)
    assert lines[0].split()[:2] == ['FAIL', '1.11']
    assert lines[1].split()[:2] == ['FAIL', '1.33']
    assert lines[1].endswith('kd__b: grad/preds_S')


def test_a_missing_adapter_fails_only_when_strict(check, tmp_path):
    write(tmp_path, 'kd__a')
    write(tmp_path, 'alchemy__a')
    write(tmp_path, 'cwd__other', hyper=dict(type='AnotherLoss'))
    code, lines = check(tmp_path)
    assert code == 0
    assert [line.split() for line in lines[:2]] == [
        ['none', '-', 'alchemy__a'], ['none', '-', 'cwd__other']
    ]  # yapf: disable
    assert lines[-1] == '1 passed, 0 failed, 2 without adapter'
    assert check(tmp_path, '--strict')[0] == 1
    assert check(tmp_path, '--strict', '--method', 'kd')[0] == 0


def test_nothing_to_do_is_exit_code_2(check, tmp_path):
    code, lines = check(tmp_path)
    assert code == 2
    assert lines == ['0 passed, 0 failed, 0 without adapter']
    write(tmp_path, 'kd__a')
    assert check(tmp_path, '--method', 'fgd', 'cwd')[0] == 2
    assert check(tmp_path / 'absent')[0] == 2


def test_methods_are_prefixes_of_the_names(check, tmp_path):
    for name in ('kd__a', 'kdx__a', 'cwd__a'):
        write(tmp_path, name)
    _, lines = check(tmp_path, '--method', 'kd')
    assert lines[-1] == '1 passed, 0 failed, 0 without adapter'


def test_an_adapter_that_raises_is_a_failure_and_the_rest_runs(
        check, tmp_path):
    write(tmp_path, 'kd__bad', hyper=dict(type='KLDivergence', tau=-1.0))
    write(tmp_path, 'kd__good')
    code, lines = check(tmp_path)
    assert code == 1
    assert 'kd__bad: ValueError: tau must be positive, got -1.0' in lines[0]
    assert lines[-1] == '1 passed, 1 failed, 0 without adapter'


def test_an_unreadable_file_is_a_failure(check, tmp_path):
    (tmp_path / 'kd__broken.npz').write_bytes(b'no zip')
    write(tmp_path, 'kd__future', schema=2)
    code, lines = check(tmp_path)
    assert code == 1
    assert 'kd__broken' in lines[0]
    assert 'schema 2 is not known' in lines[1]


@pytest.mark.parametrize('value', [{}, {
    'out/loss': torch.tensor(float('nan'))
}, {
    'out/loss': torch.zeros(1)
}], ids=['missing', 'nan', 'shape'])  # yapf: disable
def test_what_cannot_be_compared_is_a_failure(check, tmp_path, monkeypatch,
                                              value):
    write(tmp_path, 'kd__a')
    gradient = {'grad/preds_S': torch.zeros(2, 3)}
    monkeypatch.setattr(golden, 'run', lambda case: {**gradient, **value})
    code, lines = check(tmp_path)
    assert code == 1
    assert lines[0].split() == ['FAIL', 'inf', 'kd__a:', 'out/loss']


def test_a_fixture_without_expectations_is_a_failure(check, tmp_path):
    np.savez(
        tmp_path / 'kd__empty.npz', **{
            'in/preds_S': np.zeros((2, 3)),
            'in/preds_T': np.zeros((2, 3)),
            'meta': json.dumps(dict(META, hyper=KL))
        })
    code, lines = check(tmp_path)
    assert code == 1
    assert 'nothing to compare' in lines[0]


@pytest.mark.slow
def test_runs_from_any_folder(tmp_path):
    write(tmp_path, 'kd__a')
    write(tmp_path, 'kd__wrong', expected=1.0)
    for arguments, code in (((), 1), (('--method', 'fgd'), 2)):
        result = subprocess.run([sys.executable, TOOL, tmp_path, *arguments],
                                cwd=tmp_path, capture_output=True)  # yapf: disable  # noqa: E501
        assert result.returncode == code
