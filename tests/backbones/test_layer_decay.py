import copy

import pytest
from distill.test_optimizer_groups import CONVNEXT, VIT, distilled, groups
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401

DECAY = dict(
    constructor='mmcompress.BackboneLayerDecay',
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        custom_keys={'pos_embed': dict(decay_mult=0.0)}))
DETECTOR = copy.deepcopy(CONVNEXT)
DETECTOR.update(
    backbone=dict(
        type='mmcompress.ViTDet',
        arch=dict(
            embed_dims=16,
            num_layers=3,
            num_heads=2,
            feedforward_channels=32,
            global_attn_indexes=[2]),
        window_size=2,
        img_size=32),
    neck=dict(type='mmcompress.SimpleFPN', in_channels=16, out_channels=16))


def build(cfg: dict, scope: str):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(copy.deepcopy(cfg)))
        model.init_weights()
    return model


def test_rates_decay_from_layer_to_layer():
    expected = {
        'backbone.pos_embed': 4,
        'backbone.patch_embed.projection.weight': 4,
        'backbone.layers.0.attn.qkv.weight': 3,
        'backbone.layers.1.ffn.layers.1.bias': 2,
        'backbone.layers.2.attn.rel_pos_h': 1,
        'neck.scales.1.weight': 0,
        'bbox_head.retina_cls.weight': 0,
    }
    actual = groups(build(DETECTOR, 'mmdet'), DECAY, 'mmdet')
    for name, power in expected.items():
        assert actual[name]['lr'] == pytest.approx(1e-3 * 0.7**power), name
    assert {g['lr_scale']
            for g in actual.values()} == {0.7**power
                                          for power in range(5)}


def test_a_detector_gets_the_decay_of_its_backbone_in_a_classifier():
    mmpretrain = dict(
        DECAY,
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor')
    classifier = build(VIT, 'mmpretrain')
    assert groups(classifier, DECAY,
                  'mmpretrain') == groups(classifier, mmpretrain, 'mmpretrain')


def test_a_distilled_student_gets_the_groups_of_the_plain_model():
    cfg = distilled(DETECTOR, 'backbone', 16)
    plain, student = (
        groups(build(c, 'mmdet'), DECAY, 'mmdet') for c in (DETECTOR, cfg))
    adapters = student.keys() - plain.keys()
    assert adapters and all(name.startswith('distill.') for name in adapters)
    assert all(student[name]['lr_scale'] == 1 for name in adapters)
    assert {name: student[name] for name in plain} == plain


def test_norm_layers_and_positions_do_not_decay():
    actual = groups(build(DETECTOR, 'mmdet'), DECAY, 'mmdet')
    assert actual['backbone.layers.0.ln1.weight']['weight_decay'] == 0
    assert actual['backbone.pos_embed']['weight_decay'] == 0
    assert actual['backbone.layers.0.attn.qkv.weight']['weight_decay'] == 0.05


def test_a_backbone_without_depths_is_refused():
    model = build(CONVNEXT, 'mmdet')
    model.backbone = model.neck
    with pytest.raises(TypeError, match='FPN has no get_layer_depth'):
        groups(model, DECAY, 'mmdet')
