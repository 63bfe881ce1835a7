import pytest
import torch
from deploy.networks import build
from mmengine.config import Config

from mmcompress.deploy import pack
from mmcompress.deploy.file.checkpoint import write_packed
from mmcompress.deploy.file.config import packed_config
from mmcompress.deploy.file.convert import pack_file
from mmcompress.deploy.twins import round_leftovers

INNER = dict(
    type='FasterRCNN',
    backbone=dict(
        type='ResNet',
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(type='FPN', init_cfg=dict(type='Xavier', layer='Conv2d')),
    pretrained='a.pth')
STEPS = [dict(type='ReplaceConvs', include=['backbone'])]


def config_of(model, **others):
    return packed_config(Config(dict(model=model, **others)))


@pytest.mark.parametrize('model, steps', [
    (INNER, None),
    (dict(type='mmcompress.Distill', student=INNER, losses=dict(),
          teacher=dict(cfg='t.py', checkpoint='t.pth')), None),
    (dict(type='mmcompress.Compress', model=INNER, steps=STEPS), STEPS),
    (dict(type='mmcompress.Distill', losses=dict(),
          student=dict(type='mmcompress.Compress', model=INNER, steps=STEPS)),
     STEPS),
])  # yapf: disable
def test_the_model_is_the_students(model, steps):
    found = config_of(model).model
    assert found.type == 'mmcompress.Packed'
    assert found.packed_type == 'FasterRCNN'
    assert found.get('packed_steps') == steps
    assert found.backbone == dict(type='ResNet', depth=18)
    assert found.neck.init_cfg.type == 'Xavier'
    assert 'pretrained' not in found and 'teacher' not in found


def test_steps_are_applied_from_the_inside():
    inner = dict(type='mmcompress.Compress', model=INNER, steps=['first'])
    outer = dict(type='mmcompress.Compress', model=inner, steps=['second'])
    assert config_of(outer).model.packed_steps == ['first', 'second']


def test_a_preprocessor_of_the_builder_moves_inside():
    preprocessor = dict(type='DetDataPreprocessor')
    model = dict(
        type='mmcompress.Distill',
        student=INNER,
        losses=dict(),
        data_preprocessor=preprocessor)
    assert config_of(model).model.data_preprocessor == preprocessor


def test_what_training_needs_is_left_out():
    cfg = config_of(
        INNER,
        default_scope='mmdet',
        load_from='a.pth',
        train_dataloader=dict(),
        train_cfg=dict(),
        optim_wrapper=dict(),
        param_scheduler=[],
        taps=dict(neck='neck'),
        test_dataloader=dict(batch_size=1),
        test_evaluator=dict(type='CocoMetric'),
        custom_hooks=[
            dict(type='mmcompress.InformTeacherHook'),
            dict(type='SyncBuffersHook')
        ],
        default_hooks=dict(
            timer=dict(type='IterTimerHook'),
            keep=dict(type='mmcompress.CacheTeacherHook', name='t')))
    assert set(cfg) == {
        'model', 'default_scope', 'test_dataloader', 'test_evaluator',
        'custom_hooks', 'default_hooks', 'custom_imports'
    }
    assert [h.type for h in cfg.custom_hooks] == ['SyncBuffersHook']
    assert set(cfg.default_hooks) == {'timer'}
    assert cfg.custom_imports.imports == ['mmcompress.compat']


def test_hooks_that_are_taken_away_stay_away():
    cfg = config_of(INNER, default_hooks=dict(timer=None, logger=None))
    assert cfg.default_hooks == dict(timer=None, logger=None)


def test_weights_in_half_precision_come_back_in_float32(tmp_path):
    _, packed = pack(build('ida_det')[0])
    in_half = round_leftovers(packed)
    # stem and shortcuts; no bias, no constant of a packed layer
    assert len(in_half) == 4
    write_packed(packed, Config(dict(model=dict())), {}, tmp_path / 'a.pth',
                 in_half)
    state = torch.load(tmp_path / 'a.pth')['state_dict']
    # the versions of modules, which some ask for when they load
    assert state._metadata == packed.state_dict()._metadata
    assert {n
            for n, t in state.items()
            if t.dtype == torch.float16} == set(in_half)
    for name in in_half:
        assert state[name].float().equal(packed.get_parameter(name))


def test_weights_out_of_range_stay():
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    model[0].weight.data[0, 0] = 1e6
    assert round_leftovers(model) == ['1.weight']


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    _, packed = pack(build('ida_det')[0])

    def fail(*args):
        raise OSError('disk full')

    cfg = Config(dict(model=dict()))
    monkeypatch.setattr(Config, 'dump', fail)
    (tmp_path / 'a.pth').write_text('old')
    with pytest.raises(OSError, match='disk full'):
        write_packed(packed, cfg, {}, tmp_path / 'a.pth', [])
    assert [p.name for p in tmp_path.iterdir()] == ['a.pth']
    assert (tmp_path / 'a.pth').read_text() == 'old'


@pytest.mark.parametrize('arguments, match', [
    (dict(out='a.pt'), r'end with \.pth'),
    (dict(leftovers='int8'), 'float32, float16'),
    (dict(num_batches=0), 'at least one batch'),
])
def test_wrong_arguments(arguments, match):
    defaults = dict(config='c.py', checkpoint='c.pth', out='a.pth')
    with pytest.raises(ValueError, match=match):
        pack_file(**{**defaults, **arguments})
