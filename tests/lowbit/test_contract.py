"""A layer of nobody goes the whole way, by what it says of itself."""
import copy

import pytest
import torch
import torch.nn as nn
from deploy.networks import as_if_trained
from lowbit.toy_layers import ToyBinaryConv2d, W4A8Conv2d, W4A8Linear
from mmengine.registry import DefaultScope

from mmcompress.analysis.complexity import complexity, total
from mmcompress.deploy import PackedBitsConv2d, pack
from mmcompress.deploy.file.checkpoint import write_packed
from mmcompress.deploy.integer_layers import PackedIntegerLayer
from mmcompress.deploy.twins import fold_in_place
from mmcompress.deploy.verify import compare_twins, compare_with_trained
from mmcompress.deploy.verify.model import predict
from mmcompress.lowbit import (LowBitLayer, LowBitModule, OperandBits,
                               convert_layer, float_twin)
from mmcompress.registry import MODELS

SHAPE = 1, 3, 64, 64


def network(layers):
    """mmdet's ResNet-18, all but its stem in low bits."""
    return dict(
        type='mmcompress.Compress',
        model=dict(type='mmdet.ResNet', depth=18, base_channels=8),
        steps=[
            dict(
                type='mmcompress.ReplaceLayers',
                layer_cfg=dict(type=layers),
                include=['layer*.conv*'])
        ])


def build(cfg, seed=0):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return as_if_trained(MODELS.build(cfg))


class Called(nn.Module):
    """A model as the counters call it."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs, mode='tensor'):
        return self.network(inputs)


@pytest.mark.parametrize('kind, bits', [(ToyBinaryConv2d, 1), (W4A8Conv2d, 4)])
def test_replaced_counted_folded_packed_verified_and_saved(
        kind, bits, tmp_path):
    cfg = network(f'mmcompress.{kind.__name__}')
    model, x = build(cfg), torch.randn(SHAPE)
    layers = [m for m in model.modules() if isinstance(m, kind)]
    assert len(layers) == 16

    low = [
        cost for cost in complexity(Called(model).eval(), dict(inputs=x))
        if cost.bits[0] < 32
    ]
    assert {cost.bits
            for cost in low} == {kind.operand_bits(layers[0]).factors}
    assert total(low).flops == 0 and total(low).bops > 0
    weights = sum(layer.weight.numel() for layer in layers)
    assert total(low).bytes_packed < weights * bits / 8 + 8 * 2000

    folded, traces = fold_in_place(copy.deepcopy(model))
    assert len(traces) == 16
    checks = compare_with_trained(model, traces, [x])
    assert all(check.runs == 1 for check in checks.values())
    folded, packed = pack(model)
    compare_twins(folded, packed, [x])

    from mmengine.config import Config
    write_packed(packed, Config(), {}, tmp_path / 'packed.pth', [])
    stored = sum(
        m.weight_bits.numel() if bits == 1 else m.weight_codes.numel()
        for m in packed.modules() if isinstance(m, LowBitModule))
    assert stored == weights * bits / 8
    with DefaultScope.overwrite_default_scope('mmdet'):
        again = MODELS.build(
            dict(
                type='mmcompress.Packed',
                packed_type='mmdet.ResNet',
                packed_steps=cfg['steps'],
                depth=18,
                base_channels=8))
    state = torch.load(tmp_path / 'packed.pth')['state_dict']
    again.load_state_dict(state)
    assert all(map(torch.equal, predict(again, x), predict(packed, x)))
    with pytest.raises(RuntimeError, match='packed one'):
        model.load_state_dict(state)


def test_1_bit_toys_in_blocks_hand_on_bits():
    model = build(network('mmcompress.ToyBinaryConv2d'))
    packed = pack(model)[1]
    found = [m for m in packed.modules() if isinstance(m, PackedBitsConv2d)]
    assert len(found) == 8


@pytest.mark.parametrize('shape', [(5, 12), (2, 3, 12), (12, ), (0, 12)])
def test_integer_linear_layers_take_tokens(shape):
    torch.manual_seed(0)
    model = nn.Sequential(W4A8Linear(12, 7)).eval()
    packed = pack(model)[1]
    assert isinstance(packed[0], PackedIntegerLayer)
    x = torch.randn(shape)
    torch.testing.assert_close(packed(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    'kwargs',
    [dict(stride=2, padding=1),
     dict(dilation=2, groups=2, bias=False)])
def test_integer_convolutions_count_exactly(kwargs):
    torch.manual_seed(0)
    conv = W4A8Conv2d(4, 6, 3, **kwargs).eval()
    packed = pack(nn.Sequential(conv))[1][0]
    x = 3 * torch.randn(2, 4, 9, 8)
    codes = ((x / 0.05).round() + 100).clamp(0, 255) - 100
    rule = conv.inference_rule()
    k = nn.functional.conv2d(codes.double(), rule.codes.double(), None,
                             conv.stride, conv.padding, conv.dilation,
                             conv.groups).float()
    expected = k * 0.05 * rule.scale.view(-1, 1, 1)
    if rule.bias is not None:
        expected = expected + rule.bias.view(-1, 1, 1)
    assert packed(x).equal(expected)
    torch.testing.assert_close(packed(x), conv(x), rtol=1e-5, atol=1e-5)


def test_integer_layers_compute_in_float32_whatever_surrounds_them():
    torch.manual_seed(0)
    packed = pack(nn.Sequential(W4A8Linear(12, 7)))[1]
    x = torch.randn(3, 12).half()
    expected = packed(x.float()).half()
    assert packed.half()(x).equal(expected)
    with pytest.raises(RuntimeError, match='no gradient'):
        packed(x.float().requires_grad_())
    with pytest.raises(RuntimeError, match='inference only'):
        packed.train()(x)


@pytest.mark.parametrize('zero_point, largest, other', [(100, 155, 154),
                                                        (200, -200, -199)])
def test_sums_beyond_float32_are_exact(zero_point, largest, other,
                                       monkeypatch):
    monkeypatch.setattr(W4A8Linear, 'zero_point', zero_point)
    conv = W4A8Linear(20000, 1, bias=False)
    conv.weight.data.fill_(1)
    packed = pack(nn.Sequential(conv.eval()))[1][0]
    codes = torch.full((1, 20000), float(largest))
    # an odd sum
    codes[0, 0] = other
    count = torch.tensor(7. * (19999 * largest + other))
    expected = count * torch.tensor(0.05) * packed.scale
    assert packed(0.05 * codes).equal(expected[None])


def test_the_widest_operand_decides():
    """Of an attention's queries, keys and values, say."""
    assert OperandBits(4, (2, 8, 4)).factors == (4, 8)
    assert OperandBits(None, (8, 4)).factors == (8, 4)
    assert OperandBits(4, (8, 4)).are_low
    assert not OperandBits(4, (8, 32)).are_low


@pytest.mark.parametrize('kind, args', [(ToyBinaryConv2d, (4, 6, 3)),
                                        (W4A8Conv2d, (4, 6, 3)),
                                        (W4A8Linear, (4, 6))])
def test_from_a_float_layer_and_back(kind, args):
    plain = kind.__mro__[kind.__mro__.index(nn.Module) -
                         (2 if issubclass(kind, nn.Conv2d) else 1)](*args)
    plain.bias.requires_grad_(False)
    plain.eval().double()
    low = kind.from_float(plain)
    assert low.weight.equal(plain.weight) and not low.training
    assert low.weight.requires_grad and not low.bias.requires_grad
    assert low.weight.dtype == torch.float64
    back = low.to_float()
    assert type(back) is type(plain)
    assert not back.training
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    assert back(x).equal(plain(x))


def test_what_is_added_is_frozen_with_the_weight():
    plain = nn.Conv2d(3, 4, 1).requires_grad_(False)
    assert not any(
        p.requires_grad
        for p in ToyBinaryConv2d.from_float(plain).parameters())
    assert all(
        p.requires_grad for p in convert_layer(
            nn.Conv2d(3, 4, 1), ToyBinaryConv2d).parameters())


def test_the_float_twin_keeps_shared_layers_shared():
    conv = ToyBinaryConv2d(3, 3, 1)
    twin = float_twin(nn.ModuleList([conv, conv]))
    assert type(twin[0]) is nn.Conv2d and twin[0] is twin[1]


def test_a_layer_without_a_rule_stays_as_it_is():

    class NoRule(LowBitLayer, nn.Conv2d):

        def operand_bits(self):
            return OperandBits(1, (8, ))

    packed = pack(nn.Sequential(NoRule(3, 4, 1), W4A8Conv2d(4, 4, 1)))[1]
    assert type(packed[0]) is NoRule
