from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from comparison import Table

ROOT = Path(__file__).parents[3]


def model(name, teacher=None, **comparison):
    metadata = dict(Comparison=dict(Task='pose', **comparison))
    if teacher:
        metadata['Teacher'] = teacher
    return dict(Name=name, Config=f'configs/a/{name}.py', Metadata=metadata)


STUDENT = model('small', Method='student', Metric='PCK', Scale=100)
TEACHER = model('large', Method='teacher')


@pytest.fixture
def table(tmp_path):

    def read(*models):
        file = tmp_path / 'configs' / 'a' / 'metafile.yml'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(dict(Models=list(models))))
        return Table(tmp_path)

    return read


def test_reads_tasks_and_methods(table):
    inherit = dict(Task='pose', Method='inherit', Options=['a=0'])
    fgd = {'Task': 'pose', 'Method': 'fgd', 'Compared With': 'inherit'}
    taught = model('fgd_mini', 'large')
    taught['Metadata']['Comparison'] = [inherit, fgd]
    it = table(taught, STUDENT, TEACHER, dict(Name='x', Config='x.py'))
    assert (it.tasks['pose'].metric, it.tasks['pose'].scale) == ('PCK', 100)
    assert [entry.name for entry in it.methods()] == ['inherit', 'fgd']
    alone, entry = it.methods()
    assert (alone.options, alone.compared_with) == (('a=0', ), 'student')
    assert (entry.options, entry.compared_with) == ((), 'inherit')
    (option, teacher), = it.origins_of(entry).items()
    assert (option, teacher.name) == ('model.teacher.checkpoint', 'teacher')
    assert it.origins_of(it.entries['pose', 'student']) == {}
    assert [e.name
            for e in it.before(entry)] == ['teacher', 'student', 'inherit']


def test_quantized_models_start_from_the_float_one(table):
    # where nothing else is said they are compared with it
    float_model = model('large', Method='float', Metric='PCK')
    lsq = model('lsq_mini', Method='lsq_w2a2')
    q_vit = model(
        'q_vit_mini', 'large', Method='q', **{'Compared With': 'lsq_w2a2'})
    for start in (lsq, q_vit):
        start['Metadata']['Float'] = 'large'
    it = table(lsq, float_model, q_vit)
    assert it.tasks['pose'].baseline == 'float'
    baseline, entry = it.methods()
    assert baseline.compared_with == 'float'
    assert {
        k: e.name
        for k, e in it.origins_of(entry).items()
    } == {
        'load_from': 'float',
        'model.teacher.checkpoint': 'float'
    }
    assert [e.name for e in it.before(entry)] == ['float', 'lsq_w2a2']


@pytest.mark.parametrize('wrong, error', [
    (model('a', Method='a', Tusk=1), "a, Comparison: unknown keys .'Tusk'"),
    (model('a', Method='teacher'), 'pose already has teacher, .*large.py'),
    (model('a', Method='a', **{'Compared With': 'b'}), "pose has no 'b'; it"),
    (model('a', 'huge', Method='a'), 'from huge, which has no Comparison'),
    (model('a', Method='a', Metric='AP'), "the baseline of pose is 'student'"),
])
def test_names_what_is_wrong(table, wrong, error):
    with pytest.raises(ValueError, match=error):
        table(STUDENT, TEACHER, wrong)


def test_a_task_needs_a_baseline(table):
    with pytest.raises(ValueError, match='no entry of pose has a Metric'):
        table(TEACHER)


def test_what_inherits_is_compared_with_inheriting_alone():
    methods = Table(ROOT).methods()
    inheriting = {
        (entry.task, entry.name)
        for entry in methods
        if Config.fromfile(ROOT / entry.config).model.get('init_student')
    }
    told = {(e.task, e.name) for e in methods if e.compared_with == 'inherit'}
    assert told and told == inheriting - {('detection', 'inherit')}


def test_quantized_models_train_as_long_as_what_they_are_compared_with():
    table = Table(ROOT)
    for entry in table.methods():
        other = table.entries[entry.task, entry.compared_with]
        if entry.task.startswith('quantized') and other.name != 'float':
            mine, its = (
                Config.fromfile(ROOT / e.config) for e in (entry, other))
            assert mine.train_cfg.max_epochs == its.train_cfg.max_epochs
            assert mine.load_from == its.load_from
