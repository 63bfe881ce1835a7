import json
from dataclasses import replace

import pytest

from comparison import Training, TrainingFailed, ensure_trained

# stands in for tools/train.py: its score tells what it was called with
TOOL = '''
import json, pathlib, sys
config, _, folder, _, *options = sys.argv[1:]
options = dict(o.split('=') for o in options)
folder = pathlib.Path(folder)
assert [f.name for f in folder.iterdir()] == ['train.log']
if 'fail' in options:
    sys.exit('it went wrong')
score = float(options['randomness.seed']) / 10
if 'teacher' in options:
    score += float(pathlib.Path(options['teacher']).read_text())
log = folder / '20260101' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
lines = [dict(loss=1.0), {'acc': 0.01}, {'acc': score}, dict(loss=2.0)]
log.write_text(chr(10).join(map(json.dumps, lines)))
(folder / 'epoch_1.pth').write_text(str(score))
(folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
with open('calls', 'a') as file:
    file.write(pathlib.Path(config).stem + options['randomness.seed'] + ' ')
'''


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'train.py').write_text(TOOL)
    for name in ('student', 'teacher'):
        (tmp_path / f'{name}.py').write_text(
            f"model = dict(type='{name}', cfg='{{{{ fileDirname }}}}/x.py')\n"
            'randomness = dict(seed=0)\n')
    return tmp_path


def training(root, **kwargs):
    settings = dict(
        task='pose',
        method='student',
        config='student.py',
        metric='acc',
        scale=100,
        seed=1)
    return Training(root=root, **{**settings, **kwargs})


def calls(root):
    return (root / 'calls').read_text().split()


def test_records_the_last_score(root):
    record, = ensure_trained(training(root), root / 'wd')
    assert record['score'] == pytest.approx(10)
    assert (record['seed'], record['task']) == (1, 'pose')
    assert record['hash'] == training(root).hash
    assert {'machine', 'versions', 'seconds', 'options'} <= set(record)
    assert json.loads(json.dumps(record)) == record


def test_trains_once(root):
    for _ in range(2):
        ensure_trained(training(root), root / 'wd')
    ensure_trained(training(root, seed=2), root / 'wd')
    assert calls(root) == ['student1', 'student2']


def test_an_interrupted_training_starts_again(root):
    one = training(root)
    ensure_trained(one, root / 'wd')
    (one.folder(root / 'wd') / 'record.json').unlink()
    ensure_trained(one, root / 'wd')
    assert calls(root) == ['student1', 'student1']


def test_what_comes_before_is_trained_once_and_hands_its_checkpoint(root):
    teacher = training(root, config='teacher.py', method='teacher', seed=0)
    for seed in (1, 2):
        records = ensure_trained(
            training(root, seed=seed, after=dict(teacher=teacher)),
            root / 'wd')
        assert [r['method'] for r in records] == ['teacher', 'student']
        assert records[1]['after'] == [teacher.hash]
    assert records[1]['score'] == pytest.approx(20)
    assert calls(root) == ['teacher0', 'student1', 'student2']


def test_another_task_does_not_train_it_again(root):
    one = training(root)
    ensure_trained(one, root / 'wd')
    again, = ensure_trained(
        replace(one, task='quantized', method='float'), root / 'wd')
    assert (again['task'], again['method']) == ('quantized', 'float')
    assert calls(root) == ['student1']


def test_hash_is_of_everything_but_seed_and_place(root, tmp_path_factory):
    one = training(root)
    assert replace(one, seed=5).hash == one.hash
    # writing out what the config says anyway changes nothing
    same = replace(one, options=('model.type=student', ))
    assert same.hash == one.hash
    teacher = training(root, config='teacher.py')
    hashes = {
        one.hash, teacher.hash,
        replace(one, options=('model.type=other', )).hash,
        replace(one, after=dict(teacher=teacher)).hash
    }
    assert len(hashes) == 4
    other = tmp_path_factory.mktemp('elsewhere')
    (other / 'student.py').write_text((root / 'student.py').read_text())
    assert replace(one, root=other).hash == one.hash


def test_a_failure_shows_the_end_of_the_log(root):
    with pytest.raises(
            TrainingFailed, match="(?s)status 1.*it went wrong") as info:
        ensure_trained(training(root, options=('fail=1', )), root / 'wd')
    assert 'train.log' in str(info.value)
    with pytest.raises(TrainingFailed, match="no validation logged 'AP'"):
        ensure_trained(training(root, metric='AP'), root / 'wd')
