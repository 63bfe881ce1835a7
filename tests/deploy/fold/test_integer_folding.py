"""Integer layers with what surrounds them: exact, and near what was trained.
"""
import copy

import pytest
import torch
import torch.nn as nn
from deploy.networks import as_if_trained
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from quantization.small_models import batch_of
from quantization.small_models import build as build_model
from quantization.small_models import scope_of
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.deploy import PackedBlock, PackedConv2d, pack
from mmcompress.deploy.attention import PackedProjections
from mmcompress.deploy.integer_layers import (PackedIntegerChain,
                                              PackedIntegerConv2d,
                                              PackedIntegerLayer)
from mmcompress.deploy.twins import fold_in_place, on_kernels
from mmcompress.deploy.verify import compare_twins, compare_with_trained
from mmcompress.deploy.verify.model import tensors_of
from mmcompress.lowbit import LowBitLayer
from mmcompress.quantization import Quantizer, Spec
from mmcompress.registry import MODELS

SPEC = Spec(
    weight=dict(type='LSQ', bits=4),
    activation=dict(type='LSQ', bits=8, init='mse'))
STEP = dict(
    type='mmcompress.QuantizeLayers',
    weight=SPEC.weight,
    activation=SPEC.activation,
    attention=dict(type='LSQ', bits=8))


def mild(model):
    """Random norms whose gains have both signs and are not tiny."""
    as_if_trained(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.affine:
            gain = module.weight.data
            gain.copy_(gain.sign() * (0.5 + gain.abs()))
    return model


def assert_exact_and_near(model, x):
    """Folded = packed in every bit, layers within 2e-6 of the trained ones.

    Returns the packed model and the traces.
    """
    folded, traces = fold_in_place(copy.deepcopy(model))
    checks = compare_with_trained(model, traces, [x])
    integers = {
        trace.conv
        for trace in traces
        if isinstance(trace.layer, (PackedIntegerLayer, PackedProjections))
    }
    assert integers
    assert max(checks[name].error for name in integers) < 2e-6
    packed = on_kernels(folded)
    compare_twins(folded, packed, [x])
    return packed, traces


def begun(model, x):
    """With scales from data."""
    mild(model)
    model(x)
    # train() of some backbones returns None
    model.eval()
    return model


def quantize(model, skip=()):
    """All float layers but those whose names end like this."""
    for name, module in list(model.named_modules()):
        if (type(module) in (nn.Linear, nn.Conv2d)
                and not name.endswith(tuple(skip))):
            SPEC.swap(module)
    return model


def unit(channels=8, act='ReLU', **kwargs):
    return ConvModule(
        channels,
        channels,
        3,
        padding=1,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type=act),
        **kwargs)


@pytest.mark.parametrize('act, handed', [('ReLU', 2), ('ReLU6', 2),
                                         ('SiLU', 0), ('LeakyReLU', 0)])
def test_units_in_a_row_hand_on_codes_where_the_operator_has_the_act(
        act, handed):
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 7)
    model = begun(quantize(nn.Sequential(*(unit(act=act) for _ in range(3)))),
                  x)  # yapf: disable
    packed, traces = assert_exact_and_near(model, x)
    assert sum(t.following is not None for t in traces) == handed
    assert not any(isinstance(m, _BatchNorm) for m in packed.modules())


def test_a_depthwise_convolution_and_groups_are_part_of_a_chain():
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 9)
    model = begun(
        quantize(
            nn.Sequential(
                nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16),
                nn.ReLU6(), nn.Conv2d(16, 16, 3, 2, 1, groups=16),
                nn.BatchNorm2d(16), nn.ReLU6(),
                nn.Conv2d(16, 8, 3, dilation=2, groups=4))), x)
    packed, _ = assert_exact_and_near(model, x)
    assert isinstance(packed[0], PackedIntegerChain)
    assert len(packed[0]) == 3


def resnet(depth, **kwargs):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            dict(type='ResNet', depth=depth, base_channels=8, **kwargs))


@pytest.mark.parametrize('depth, handed', [(18, 8), (50, 32)])
def test_blocks_of_resnets_are_chains(depth, handed):
    x = torch.randn(1, 3, 64, 64)
    model = begun(quantize(resnet(depth)), x)
    packed, traces = assert_exact_and_near(model, x)
    assert sum(t.following is not None for t in traces) == handed
    assert not any(isinstance(m, _BatchNorm) for m in packed.modules())


@pytest.mark.parametrize('skip', ['conv1', 'conv2', 'conv3'])
def test_a_float_layer_in_a_block_leaves_the_other_norms_folded(skip):
    x = torch.randn(1, 3, 64, 64)
    model = begun(quantize(resnet(50), [skip]), x)
    packed, _ = assert_exact_and_near(model, x)
    norms = [n for n, m in packed.named_modules() if isinstance(m, _BatchNorm)]
    index = skip[-1]
    # the stem's too, which is called conv1
    assert len(norms) == 16 + (skip == 'conv1')
    assert all(name.endswith(f'bn{index}') for name in norms)


def test_1_bit_and_integer_layers_mix_in_a_block():
    x = torch.randn(1, 3, 64, 64)
    torch.manual_seed(0)
    model = resnet(18)
    from mmcompress.lowbit import ReplaceLayers
    ReplaceLayers(dict(type='mmcompress.IDaDetConv2d'), ['layer*.conv2'])(
        model)
    model = begun(quantize(model), x)
    packed, traces = assert_exact_and_near(model, x)
    block = packed.layer1[0]
    assert isinstance(block.conv1, PackedIntegerConv2d)
    assert isinstance(block.bn1, nn.Identity)
    assert isinstance(block.conv2, PackedConv2d)
    assert len(traces) == sum(
        isinstance(m, LowBitLayer) for m in model.modules())


def test_a_1_bit_network_takes_an_integer_stem_and_shortcuts():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 64, 64)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(
            dict(type='mmcompress.BiResNet', depth=18, base_channels=8))
    floats = [n for n, m in model.named_modules() if type(m) is nn.Conv2d]
    model = begun(quantize(model), x)
    packed, traces = assert_exact_and_near(model, x)
    kinds = {t.conv: type(t.layer) for t in traces}
    assert all(kinds[name] is PackedIntegerConv2d for name in floats)
    assert PackedConv2d in kinds.values()
    assert not any(isinstance(m, _BatchNorm) for m in packed.modules())


def test_a_convolution_with_several_norms_is_stored_once(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 9)
    units = nn.ModuleList(unit() for _ in range(3))
    for other in units[1:]:
        other.conv = units[0].conv

    class Shared(nn.Module):

        def __init__(self):
            super().__init__()
            self.units = units

        def forward(self, x):
            return [unit(x) for unit in self.units]

    model = begun(quantize(Shared()), x)
    packed, _ = assert_exact_and_near(model, x)
    codes = [unit.weight_codes for unit in packed.units]
    assert all(c is codes[0] for c in codes)
    assert not packed.units[0].scale.equal(packed.units[1].scale)
    state = packed.state_dict()
    state['units.1.weight_codes'] = state['units.1.weight_codes'] ^ 17
    from mmcompress.deploy.file.record import checksum
    state['packed_checksum'] = checksum(state)
    with pytest.raises(RuntimeError, match='are one tensor, and differ'):
        packed.load_state_dict(state)


# name -> convolutions that hand on codes
HANDED = dict(
    faster_rcnn=8, retinanet=8, rtmdet=0, resnet=32, mobilenet_v2=33, deit=0,
    swin=0, swin_v2=0, beit=0, rtmpose=0, detr=8, conditional_detr=8,
    deformable_detr=8, segformer=4, upernet_swin=0, mmseg_vit=0,
    vitpose=0)  # yapf: disable
# a transposed convolution has no integers
FLOATS = dict(vitpose=['deconv_layers.0'])
QUICK = {'deit', 'mobilenet_v2'}


class Called(nn.Module):
    """Calls an mm model with a batch."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return tensors_of(self.model(**copy.deepcopy(batch), mode='tensor'))


@pytest.mark.parametrize('name', [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in HANDED
])
def test_models_of_the_libraries(name):
    model = mild(build_model(name, [STEP]))
    batch = batch_of(name, model)
    with DefaultScope.overwrite_default_scope(scope_of(name)):
        trained = begun_with(model, batch)
        packed, traces = assert_exact_and_near(trained, batch)
    layers = {
        n
        for n, m in trained.named_modules()
        if isinstance(m, LowBitLayer) and m.operand_bits().weight
    }
    left = layers - {trace.conv for trace in traces}
    assert len(left) == len(FLOATS.get(name, ()))
    assert all(n.endswith(tuple(FLOATS[name])) for n in left)
    assert sum(t.following is not None for t in traces) == HANDED[name]


def begun_with(model, batch):
    trained = Called(model).eval()
    trained(batch)
    assert all(q.is_initialized or q.saw_zeros or not q.seen
               for q in trained.modules() if isinstance(q, Quantizer))
    return trained


def test_blocks_that_add_without_an_activation_are_fused():
    model = mild(build_model('mobilenet_v2', [STEP]))
    packed = pack(model)[1]
    blocks = [m for m in packed.modules() if isinstance(m, PackedBlock)]
    assert len(blocks) == 17
    adds = [m for m in model.modules() if getattr(m, 'use_res_connect', False)]
    assert sum(b.shortcut is not None for b in blocks) == len(adds) > 0
