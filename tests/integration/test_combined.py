"""Pruned, merged, distilled, quantized and packed: all in one config."""
import copy
from itertools import permutations

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from tokens.models import ARCH

from mmcompress.deploy import pack
from mmcompress.tokens import Tokens

DENSE = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=ARCH,
        img_size=32,
        patch_size=8),
    head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16))
PRUNED = dict(
    type='mmcompress.KeepUnits',
    units={
        f'backbone.layers.{i}.{part}': num
        for i, (heads, hidden) in enumerate([(5, 20), (4, 16), (3, 9), (6, 7)])
        for part, num in (('attn', heads), ('ffn', hidden))
    })
MERGED = dict(type='mmcompress.MergeTokens', r=3)
QUANTIZED = dict(
    type='mmcompress.QuantizeLayers',
    weight=dict(type='LSQ', bits=8),
    activation=dict(type='LSQ', bits=8))

TAPS = dict(
    low=['backbone.layers.0', 'backbone.layers.1'], high='backbone.ln1')
LOSSES = dict(
    loss_kd=dict(type='mmcompress.KDLoss', student='head', teacher='head'),
    loss_vitkd=dict(
        type='mmcompress.ViTKDLoss',
        student=TAPS,
        teacher=TAPS,
        student_dims=16,
        teacher_dims=16))


def built(steps: list[dict], distilled: bool = False) -> torch.nn.Module:
    """The student, with what an untrained model has no values for."""
    cfg = dict(type='mmcompress.Compress', model=DENSE, steps=steps)
    if distilled:
        cfg = dict(
            type='mmcompress.Distill',
            student=cfg,
            teacher=dict(cfg=dict(model=DENSE), allow_random=True),
            losses=LOSSES)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(ConfigDict(copy.deepcopy(cfg)))
        model.init_weights()
    return model


def data(num: int = 4) -> dict:
    """Preprocessed images with labels."""
    generator = torch.Generator().manual_seed(0)
    return dict(
        inputs=torch.randn((num, 3, 32, 32), generator=generator),
        data_samples=[DataSample().set_gt_label(i % 3) for i in range(num)])


def rows(model: torch.nn.Module) -> list[int]:
    """Tokens behind each layer."""
    seen = []
    hooks = [
        layer.register_forward_hook(
            lambda module, args, out: seen.append(Tokens.of(out).x.size(1)))
        for layer in model.backbone.layers
    ]
    model(**data(), mode='tensor')
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    'steps', permutations([MERGED, QUANTIZED]), ids=['merge', 'quantize'])
def test_it_learns_from_the_dense_model_and_is_packed(steps):
    model = built([PRUNED, *steps], distilled=True).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        losses = model(**data(), mode='loss')
        assert {'loss', 'loss_kd', 'loss_lr',
                'loss_gen'} <= {key.rpartition('.')[2]
                                for key in losses} | set(losses)
        total, _ = model.parse_losses(losses)
        optimizer.zero_grad()
        total.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()
    model.eval()
    assert model.backbone.layers[0].ffn.layers[1].in_features == 20
    assert rows(model) == [14, 11, 8, 5]
    folded, packed = pack(model)
    with torch.no_grad():
        trained = model(**data(), mode='tensor')[0]
        twin = folded(**data(), mode='tensor')[0]
        fast = packed(**data(), mode='tensor')[0]
    assert torch.equal(twin, fast)
    # codes that rounding changes are few, and each moves little
    torch.testing.assert_close(twin, trained, rtol=0.05, atol=0.02)
    assert rows(packed) == [14, 11, 8, 5]
