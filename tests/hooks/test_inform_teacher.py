from types import SimpleNamespace

import torch.nn as nn
from mmengine.config import Config
from mmengine.registry import HOOKS

from mmcompress.distill import Distiller
from mmcompress.distill.teacher import Teacher
from mmcompress.hooks import InformTeacherHook
from mmcompress.model.data import TrainingData


def runner_of(teacher, loop, filename=None):
    model = nn.Module()
    if teacher is not None:
        model.distill = Distiller(model, teacher, [], [])
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(type='CIFAR10', pipeline=[dict(type='Flip')]))),
        filename=filename)
    return SimpleNamespace(model=model, cfg=cfg, _train_loop=loop)


def test_the_teacher_learns_what_the_student_is_trained_on(tmp_path):
    teacher = Teacher({}, allow_random=True)
    dataset = SimpleNamespace(metainfo=dict(classes=['a', 'b']))
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    (tmp_path / 'config.py').write_text('')
    InformTeacherHook().before_run(
        runner_of(teacher, loop, str(tmp_path / 'config.py')))
    assert teacher.student_data == TrainingData('rgb', (), ('a', 'b'))
    assert teacher.config_dir == str(tmp_path)


def test_a_test_builds_no_training_data():
    """Its runner has the config of the loop in place of the loop."""
    teacher = Teacher({}, allow_random=True)
    InformTeacherHook().before_run(runner_of(teacher, dict(max_epochs=1)))
    assert teacher.student_data == TrainingData('rgb', (), None)
    assert teacher.config_dir is None


def test_models_that_learn_from_none_are_left_alone():
    InformTeacherHook().before_run(runner_of(None, None))


def test_configs_may_still_call_it_by_its_former_name():
    hook = HOOKS.build(dict(type='mmcompress.DistillHook'))
    assert isinstance(hook, InformTeacherHook)


def test_what_a_model_calls_distill_itself_is_left_alone():
    runner = runner_of(None, None)
    runner.model.distill = nn.Linear(2, 2)
    InformTeacherHook().before_run(runner)
