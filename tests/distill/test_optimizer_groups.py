"""Optimizer constructors see the student as they see the plain model."""
import copy

import pytest
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401

VIT = dict(
    type='mmpretrain.ImageClassifier',
    _scope_='mmpretrain',
    data_preprocessor=dict(num_classes=3),
    backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8),
    head=dict(type='VisionTransformerClsHead', num_classes=3, in_channels=16))
CONVNEXT = dict(
    type='mmdet.RetinaNet',
    _scope_='mmdet',
    backbone=dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 3, 1], channels=[8, 8, 16, 16]),
        out_indices=[1, 2, 3],
        gap_before_final_norm=False),
    neck=dict(
        type='FPN', in_channels=[8, 16, 16], out_channels=16, num_outs=3),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=2,
        in_channels=16,
        feat_channels=16,
        stacked_convs=1,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[4],
            ratios=[1.0],
            strides=[8, 16, 32])))
NO_DECAY = dict(
    paramwise_cfg=dict(
        norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True))


def layer_decay_of_mmpretrain():
    # as in mmpretrain's configs for BEiT and MAE
    return dict(
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        paramwise_cfg=dict(
            layer_decay_rate=0.65,
            norm_decay_mult=0.0,
            flat_decay_mult=0.0,
            custom_keys={'.cls_token': dict(decay_mult=0.0)}))


def layer_decay_of_mmdet(decay_type):
    # as in mmdet's configs for ConvNeXt
    return dict(
        constructor='mmdet.LearningRateDecayOptimizerConstructor',
        paramwise_cfg=dict(
            decay_rate=0.7, decay_type=decay_type, num_layers=6))


def groups(model, cfg, scope):
    """Settings of the optimizer, by name of the parameter."""
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        **cfg)
    with DefaultScope.overwrite_default_scope(scope):
        optimizer = build_optim_wrapper(model, ConfigDict(cfg)).optimizer
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: {
            key: group[key]
            for key in ('lr', 'weight_decay', 'lr_scale', 'layer_id')
            if key in group
        }
        for group in optimizer.param_groups
        for p in group['params']
    }


def distilled(student, feature, channels):
    """Config of the student with a trainable adapter beside it."""
    return dict(
        type='mmcompress.Distill',
        student=copy.deepcopy(student),
        teacher=dict(cfg=copy.deepcopy(student), allow_random=True),
        losses=dict(
            loss_cwd=dict(
                type='mmcompress.CWDLoss',
                student=feature,
                teacher=feature,
                student_channels=channels,
                teacher_channels=channels)))


@pytest.mark.parametrize(
    'student, feature, cfg', [
        (VIT, 'backbone', layer_decay_of_mmpretrain()),
        (VIT, 'backbone', NO_DECAY),
        (CONVNEXT, 'neck', layer_decay_of_mmdet('layer_wise')),
        (CONVNEXT, 'neck', layer_decay_of_mmdet('stage_wise')),
        (CONVNEXT, 'neck', NO_DECAY),
    ],
    ids=[
        'vit_layers', 'vit', 'convnext_layers', 'convnext_stages', 'convnext'
    ])
def test_groups_are_those_of_the_plain_model(student, feature, cfg):
    scope = student['_scope_']
    with DefaultScope.overwrite_default_scope(scope):
        plain = MODELS.build(ConfigDict(copy.deepcopy(student)))
        model = MODELS.build(ConfigDict(distilled(student, feature, 16)))
        model.init_weights()
    expected, actual = (groups(m, cfg, scope) for m in (plain, model))
    adapters = {key for key in actual if key.startswith('distill.')}
    assert {k: v for k, v in actual.items() if k not in adapters} == expected
    # an adapter learns at the full rate, as the head does
    assert adapters == {
        'distill.loss_cwd.adapter.weight', 'distill.loss_cwd.adapter.bias'
    }  # yapf: disable
    assert all(actual[key]['lr'] == 1e-3 for key in adapters)
    if cfg is not NO_DECAY:
        assert len({group['lr'] for group in expected.values()}) > 3
