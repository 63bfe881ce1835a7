"""A training in a process of its own: how far, how it ends, how it fails."""
import sys

import pytest

from mmcompress.one_command import training
from mmcompress.one_command.training import TrainingFailed, train

_LOG = '''
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])
for epoch in (1, 2):
    for step in (10, 20):
        print(f'Epoch(train)  [{epoch}][{step}/20]  lr: 1  loss: 0.5  x: 1')
if 'fail' in str(folder):
    sys.exit('the data are not there')
print('resumed' if '--resume' in sys.argv else 'fresh')
(folder / 'last_checkpoint').write_text(str(folder / 'epoch_2.pth'))
'''


@pytest.fixture(autouse=True)
def tool(monkeypatch):
    monkeypatch.setattr(training, '_RUN', _LOG)


def test_the_last_checkpoint_and_what_was_printed(tmp_path, monkeypatch,
                                                  capsys):
    monkeypatch.setattr(training, '_SECONDS', 0)
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: False, raising=False)
    last, seconds = train(tmp_path / 'a.py', tmp_path / 'w', 40, 'training')
    assert last.name == 'epoch_2.pth' and seconds > 0
    assert 'fresh' in (tmp_path / 'w/output.log').read_text()
    said = capsys.readouterr().err
    assert 'training: 75 % loss 0.5' in said and 'to go' in said


def test_it_goes_on_where_it_was(tmp_path):
    said, seconds = [], []
    for _ in range(2):
        _, taken = train(
            tmp_path / 'a.py', tmp_path / 'w', 40, 'training', say=said.append)
        seconds.append(taken)
    # what a stopped call took counts
    assert seconds[1] > seconds[0]
    assert 'resumed' in (tmp_path / 'w/output.log').read_text()
    assert said == [f'training goes on from {tmp_path / "w/epoch_2.pth"}']


def test_a_failure_shows_the_last_lines(tmp_path):
    with pytest.raises(TrainingFailed, match='the data are not there'):
        train(tmp_path / 'a.py', tmp_path / 'fail', 40, 'training')


@pytest.mark.parametrize('line, done', [
    ('Epoch(train)  [3][ 5/100]  lr: 1', 205),
    ('Iter(train) [ 300/4000]  lr: 1', 300),
    ('Epoch(val)  [3][ 5/100]', None),
])
def test_lines_of_the_log(line, done):
    assert training._iteration(line) == done
