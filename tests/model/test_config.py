from copy import deepcopy

import pytest
import torch
from distill.models import build, detection_scope, distill, retinanet
from mmengine.config import Config
from mmengine.registry import MODELS

import mmcompress.compat  # noqa: F401
from mmcompress.distill import Distill
from mmcompress.distill.listing import build_side
from mmcompress.distill.teacher import Teacher
from mmcompress.model.config import (build_model, build_untrained, inner_model,
                                     read_config, teacher_of,
                                     without_distillation)

PLAIN = dict(type='mmdet.RetinaNet', backbone=dict(depth=18))
STEPS = [dict(type='a'), dict(type='b')]


def distilled(student, prefix='mmcompress.', **kwargs):
    return dict(
        type=f'{prefix}Distill',
        student=student,
        teacher=dict(cfg='teacher.py'),
        losses=dict(),
        **kwargs)


def mutual(student, **kwargs):
    return dict(
        type='mmcompress.MutualDistill',
        student=student,
        peer=dict(type='Peer'),
        losses=dict(),
        **kwargs)


def compressed(model, steps, **kwargs):
    return dict(type='mmcompress.Compress', model=model, steps=steps, **kwargs)


def packed(model, steps=None):
    outer = dict(type='mmcompress.Packed', packed_type=model['type'])
    if steps:
        outer['packed_steps'] = steps
    return {**{k: v for k, v in model.items() if k != 'type'}, **outer}


@pytest.mark.parametrize(
    'model, steps',
    [
        (PLAIN, []),
        (distilled(PLAIN), []),
        (distilled(PLAIN, prefix=''), []),
        (mutual(PLAIN), []),
        (packed(PLAIN), []),
        (packed(PLAIN, STEPS), STEPS),
        (compressed(PLAIN, STEPS), STEPS),
        (distilled(compressed(PLAIN, STEPS)), STEPS),
        (compressed(distilled(PLAIN), STEPS), STEPS),
        (compressed(mutual(PLAIN), STEPS), STEPS),
        (mutual(distilled(compressed(PLAIN, STEPS))), STEPS),
        (distilled(packed(PLAIN, STEPS)), STEPS),
        # the inner steps come first
        (compressed(mutual(compressed(PLAIN, STEPS[:1])), STEPS[1:]), STEPS),
    ])
def test_the_inner_model_is_found_below_all_builders(model, steps):
    before = deepcopy(model)
    assert inner_model(model) == (PLAIN, steps)
    assert model == before


@pytest.mark.parametrize('model, left', [
    (PLAIN, PLAIN),
    (distilled(mutual(PLAIN)), PLAIN),
    (compressed(mutual(PLAIN), STEPS), compressed(PLAIN, STEPS)),
    (mutual(compressed(distilled(PLAIN), STEPS)), compressed(PLAIN, STEPS)),
    (distilled(packed(PLAIN)), packed(PLAIN)),
])
def test_what_only_training_needs_is_taken_away(model, left):
    before = deepcopy(model)
    assert without_distillation(model) == left
    assert model == before


def test_types_may_be_objects():
    model = dict(distilled(PLAIN), type=Distill)
    assert inner_model(model) == (PLAIN, [])


def test_builders_of_others_are_left_alone():
    model = dict(distilled(PLAIN), type='other.Distill')
    assert without_distillation(model) == model


def test_the_preprocessor_of_a_builder_is_the_models():
    mine, other = dict(type='mine'), dict(type='other')
    for wrap in (distilled, mutual):
        model = wrap(PLAIN, data_preprocessor=mine)
        assert without_distillation(model) == dict(
            PLAIN, data_preprocessor=mine)
        model = wrap(
            dict(PLAIN, data_preprocessor=other), data_preprocessor=mine)
        assert inner_model(model)[0]['data_preprocessor'] == other
    model = compressed(PLAIN, STEPS, data_preprocessor=mine)
    assert inner_model(model)[0]['data_preprocessor'] == mine


@pytest.mark.parametrize('model, teacher', [
    (PLAIN, None),
    (compressed(PLAIN, STEPS), None),
    (distilled(PLAIN), 'teacher.py'),
    (compressed(distilled(PLAIN), STEPS), 'teacher.py'),
    (compressed(mutual(PLAIN), STEPS), dict(type='Peer')),
    (packed(PLAIN), None),
])
def test_the_teacher_is_found_below_all_builders(model, teacher):
    assert teacher_of(model) == teacher


def test_the_peer_of_mutual_learning_can_be_listed(tmp_path):
    model = dict(
        type='mmcompress.MutualDistill',
        student=retinanet(),
        peer=retinanet(depth=34),
        losses=dict())
    path = tmp_path / 'mutual.py'
    Config(dict(model=model, default_scope='mmdet')).dump(path)
    with detection_scope():
        peer, scope = build_side(str(path), 'teacher')
    assert peer.backbone.depth == 34 and scope == 'mmdet'


def test_a_model_that_learned_beside_a_peer_can_teach(tmp_path):
    learned = dict(
        type='mmcompress.MutualDistill',
        student=retinanet(),
        peer=retinanet(depth=34),
        losses=dict(
            loss_x=dict(
                type='mmcompress.CWDLoss', student='neck', teacher='neck')))
    path = str(tmp_path / 'mutual.pth')
    weights = build(learned, seed=3).state_dict()
    torch.save(dict(state_dict=weights), path)
    # whatever stands around it
    for cfg in (learned, distill(student=learned),
                compressed(learned, [])):  # yapf: disable
        teacher = Teacher(cfg=dict(model=cfg), checkpoint=path)
        with detection_scope():
            teacher.build(build(retinanet()), dict(loss='neck'))
        assert torch.equal(teacher.model.backbone.conv1.weight,
                           weights['backbone.conv1.weight'])


def test_building_draws_no_random_numbers_that_others_would_have_drawn():
    cfg = Config(dict(model=retinanet()))
    with detection_scope():
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        build_model(cfg)
        assert torch.equal(torch.rand(3), expected)


def test_weights_are_random_whatever_the_config_wants_to_load():
    model = retinanet()
    model['backbone']['init_cfg'] = dict(
        type='Pretrained', checkpoint='no/such.pth')
    with detection_scope():
        built = build_untrained(Config(dict(model=model)))
    assert all(p.isfinite().all() for p in built.parameters())


def test_a_config_is_read_from_a_dict_a_file_or_a_library(
        tmp_path, monkeypatch):
    whole = dict(model=retinanet(), a=1)
    assert read_config(whole, dict(a=2)).a == 2
    assert read_config(retinanet()).model.type == 'mmdet.RetinaNet'
    (tmp_path / 'sub').mkdir()
    Config(whole).dump(tmp_path / 'sub' / 'x.py')
    assert read_config('sub/x.py', folder=str(tmp_path)).a == 1
    monkeypatch.chdir(tmp_path)
    assert read_config('sub/x.py').a == 1
    cfg = read_config('mmdet::retinanet/retinanet_r18_fpn_1x_coco.py')
    assert cfg.model.backbone.depth == 18


def test_errors_name_what_names_the_config(tmp_path):
    with pytest.raises(FileNotFoundError, match="peer: no file 'x.py'"):
        read_config('x.py', key='peer')
    path = tmp_path / 'empty.py'
    path.write_text('a = 1')
    with pytest.raises(ValueError, match=f'config: {path} has no key `model`'):
        read_config(str(path))


@MODELS.register_module(force=True)
class _Changes(torch.nn.Module):
    """Writes into its config, as DETR's head does."""

    def __init__(self, loss):
        super().__init__()
        loss['weight'] = torch.ones(2)


def test_a_model_that_changes_its_config_is_built_from_a_copy():
    cfg = Config(dict(model=dict(type='_Changes', loss=dict(weight=1.))))
    build_model(cfg)
    assert cfg.model.loss.weight == 1.
