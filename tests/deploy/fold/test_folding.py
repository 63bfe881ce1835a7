import copy

import pytest
import torch
import torch.nn as nn
from deploy.networks import NETWORKS, as_if_trained, build
from mmcv.cnn import ConvModule
from torch.utils._python_dispatch import TorchDispatchMode

from mmcompress.binary import IDaDetConv2d, PoemLinear
from mmcompress.binary.layers import ReActConv2d, RPReLU, RSign, Shift
from mmcompress.deploy import (PackedBackbone, PackedBitsConv2d, PackedBlock,
                               PackedChain, PackedConv2d, pack, set_twin)
from mmcompress.deploy.fold import Folding
from mmcompress.deploy.fold.constants import through_relu
from mmcompress.deploy.twins import fold_in_place
from mmcompress.deploy.verify import compare_twins, compare_with_trained
from mmcompress.deploy.verify.model import predict, same_bits, tensors_of
from mmcompress.lowbit import LowBitLayer


def packed_of(model, x):
    """The packed model, compared with its folded twin on ``x``."""
    folded, packed = pack(model)
    assert all(map(same_bits, predict(folded, x), predict(packed, x)))
    return packed


def difference(model, packed, x):
    """Largest difference, relative to the largest output."""
    return max(
        float((a - b).abs().max() / a.abs().max())
        for a, b in zip(predict(model, x), predict(packed, x), strict=True))


@pytest.mark.parametrize('name', NETWORKS)
def test_folded_is_packed_and_both_are_the_trained_layers(name):
    model, x = build(name)
    before = copy.deepcopy(model.state_dict())
    folded, traces = fold_in_place(copy.deepcopy(model))
    checks = compare_with_trained(model, traces, [x])
    assert all(check.runs > 0 for check in checks.values())
    num_layers = sum(isinstance(m, LowBitLayer) for m in model.modules())
    assert len(traces) == num_layers
    _, packed = pack(model)
    compare_twins(folded, packed, [x])
    # the trained model stays what it was
    assert all(model.state_dict()[k].equal(v) for k, v in before.items())


@pytest.mark.parametrize('name, num_bits', [
    ('ida_det', 0), ('xnor', 8), ('xnor_nin', 4),
    ('resnet18', 8), ('resnet50', 32),
    ('pointnet_poem_relu', 6)
])  # yapf: disable
def test_chains_without_real_values_between_stay_integers(name, num_bits):
    model, _ = build(name)
    _, packed = pack(model)
    found = [m for m in packed.modules() if isinstance(m, PackedBitsConv2d)]
    assert len(found) == num_bits


def test_a_layer_alone_stands_where_it_was():
    torch.manual_seed(0)
    model = nn.ModuleDict(dict(a=nn.Conv2d(3, 8, 1), b=IDaDetConv2d(8, 8, 3)))
    _, packed = pack(model)
    assert isinstance(packed['b'], PackedConv2d)
    assert type(packed['a']) is nn.Conv2d
    x = torch.randn(2, 8, 6, 5)
    assert torch.allclose(packed['b'](x), model['b'](x), atol=1e-6)


@pytest.mark.parametrize('make', [
    lambda: nn.Sequential(
        IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3)),
    lambda: nn.Sequential(
        IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8)),
    lambda: nn.Sequential(
        IDaDetConv2d(8, 8, 3), nn.ReLU(), nn.BatchNorm2d(8),
        IDaDetConv2d(8, 8, 3), nn.ReLU()),
], ids=['norm', 'norm_relu', 'relu_norm'])  # yapf: disable
def test_only_bits_pass_between_neighbours(make):
    torch.manual_seed(1)
    model = as_if_trained(make())
    x = torch.randn(2, 8, 9, 9)
    packed = packed_of(model, x)
    assert isinstance(packed[0], PackedChain)
    assert isinstance(packed[0][0], PackedBitsConv2d)
    assert len(packed) == len(model)
    assert difference(model, packed, x) < 1e-5


def test_reactnets_sign_and_prelu_as_modules():
    torch.manual_seed(1)
    model = as_if_trained(
        nn.Sequential(
            RSign(8), ReActConv2d(8, 8, 3), nn.BatchNorm2d(8), RPReLU(8),
            RSign(8), ReActConv2d(8, 8, 3), RPReLU(8)))
    x = torch.randn(2, 8, 9, 9)
    packed = packed_of(model, x)
    assert len(packed[0]) == 2
    assert all(layer.post is not None for layer in packed[0])
    assert difference(model, packed, x) < 1e-5


def test_a_shift_without_an_activation_belongs_to_the_next_sign():
    torch.manual_seed(1)
    model = as_if_trained(
        nn.Sequential(
            ReActConv2d(8, 8, 3), nn.BatchNorm2d(8), Shift(8), RSign(8),
            ReActConv2d(8, 8, 3)))
    x = torch.randn(2, 8, 9, 9)
    packed = packed_of(model, x)
    assert len(packed[0]) == 2
    assert difference(model, packed, x) < 1e-5


def test_what_is_added_behind_an_activation_is_not_fused():
    """A packed layer adds in front of it."""
    block = as_if_trained(
        nn.Sequential(ReActConv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()))
    conv, norm, act = block
    fuse = Folding(block).block
    assert fuse(block, [conv, norm, act], nn.Identity(), []) is None
    fused = fuse(block, [conv, norm], nn.Identity(), [act])
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(fused.eval()(x), act(norm(conv(x)) + x))


def test_a_prelu_between_neighbours_is_computed_but_not_stored():
    torch.manual_seed(1)
    model = as_if_trained(
        nn.Sequential(
            nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8),
            nn.PReLU(8), nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3)))
    x = torch.randn(2, 8, 9, 9)
    packed = packed_of(model, x)
    assert [type(layer) for layer in packed[0]] == 2 * [PackedConv2d]
    assert difference(model, packed, x) < 1e-5


def test_a_gain_of_zero_gives_a_constant_bit():
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 3)))
    model[0].weight.data[:4] = 0
    x = torch.randn(2, 8, 9, 9)
    packed = packed_of(model, x)
    assert difference(model, packed, x) < 1e-5
    assert packed[0].threshold[:4].isinf().all()


def test_what_stands_between_is_not_folded():
    """A pooling, a norm over groups, a dropout: layers on their own."""
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(
            IDaDetConv2d(8, 8, 3), nn.MaxPool2d(2), nn.BatchNorm2d(8),
            IDaDetConv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.Sigmoid(),
            IDaDetConv2d(8, 4, 1), nn.Dropout()))
    x = torch.randn(2, 8, 12, 9)
    packed = packed_of(model, x)
    kinds = [type(m) for m in packed]
    assert kinds == [
        PackedConv2d, nn.MaxPool2d, PackedConv2d, nn.Identity, nn.GroupNorm,
        nn.Sigmoid, PackedConv2d, nn.Dropout
    ]
    assert difference(model, packed, x) < 1e-5


def test_conv_module_with_norm_and_activation():
    torch.manual_seed(0)
    cfg = dict(type='mmcompress.IDaDetConv2d')
    model = as_if_trained(
        nn.Sequential(
            ConvModule(
                8, 8, 3, conv_cfg=cfg, norm_cfg=dict(type='BN'),
                act_cfg=dict(type='PReLU')),
            ConvModule(
                8, 8, 3, conv_cfg=cfg, norm_cfg=dict(type='BN'),
                act_cfg=dict(type='SiLU')),
            ConvModule(8, 8, 3)))  # yapf: disable
    x = torch.randn(2, 8, 12, 9)
    packed = packed_of(model, x)
    assert isinstance(packed[0], PackedConv2d)
    assert [type(m) for m in packed[1]] == [PackedConv2d, nn.SiLU]
    assert isinstance(packed[2], ConvModule)
    assert difference(model, packed, x) < 1e-5


@pytest.mark.parametrize('order', [('act', 'conv', 'norm'),
                                   ('norm', 'act', 'conv')])
def test_a_conv_module_that_begins_otherwise_still_packs_its_layer(order):
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(
            ConvModule(
                8, 8, 3, conv_cfg=dict(type='mmcompress.IDaDetConv2d'),
                norm_cfg=dict(type='BN'), act_cfg=dict(type='PReLU'),
                order=order)))  # yapf: disable
    x = torch.randn(2, 8, 12, 9)
    packed = packed_of(model, x)
    assert isinstance(packed[0].conv, PackedConv2d)
    assert difference(model, packed, x) < 1e-5


def test_a_block_that_can_not_be_fused_still_packs_its_layers():
    torch.manual_seed(0)
    model, x = build('ida_det')
    for layer in model.layer1:
        layer.bn1 = nn.GroupNorm(2, 8)
    packed = packed_of(model, x)
    kinds = {type(layer).__name__ for layer in packed.layers[2:6]}
    assert kinds == {'BiBlock'}
    assert isinstance(packed.layers[2].conv, PackedConv2d)
    assert difference(model, packed, x) < 1e-5


def test_a_subclass_that_computes_something_else_keeps_its_forward():

    class Reversed(nn.Sequential):

        def forward(self, x):
            for module in reversed(self):
                x = module(x)
            return x

    torch.manual_seed(0)
    model = as_if_trained(Reversed(nn.BatchNorm2d(8), IDaDetConv2d(8, 8, 1)))
    x = torch.randn(1, 8, 5, 5)
    packed = packed_of(model, x)
    assert isinstance(packed[0], nn.BatchNorm2d)
    assert difference(model, packed, x) < 1e-5


def test_a_layer_in_two_places_stays_one_layer():
    torch.manual_seed(0)
    conv = IDaDetConv2d(8, 8, 3)
    _, packed = pack(nn.ModuleList([conv, conv]))
    assert packed[0] is packed[1]


@pytest.mark.parametrize('t', [-1.0, 0.0, 1.0, -0.0])
@pytest.mark.parametrize('flip', [None, True, False])
def test_threshold_before_a_relu_gives_the_bits_behind_it(t, flip):
    y = torch.tensor([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0])
    threshold = torch.tensor([t])
    flips = None if flip is None else torch.tensor([flip])
    moved = through_relu(threshold, flips)
    if flip:
        assert (y.relu() < threshold).equal(y < moved)
    else:
        assert (y.relu() > threshold).equal(y > moved)


def test_bits_come_from_the_operator_before():
    """The stem is packed once; then every block gets the bits."""
    model, x = build('ida_det')
    _, packed = pack(model)
    assert isinstance(packed, PackedBackbone)
    blocks = [m for m in packed.layers if isinstance(m, PackedBlock)]
    seen = []
    for block in blocks:
        layer = block.chain.last
        layer._run = lambda x, *args, run=layer._run, **kwargs: (seen.append(
            x.dtype), run(x, *args, **kwargs))[1]
    predict(packed, x)
    assert seen == [torch.float32] + [torch.uint8] * (len(blocks) - 1)


def test_features_are_channels_last():
    model, x = build('react')
    _, packed = pack(model)
    for y in predict(packed, x):
        assert y.is_contiguous(memory_format=torch.channels_last)


class Operators(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def linear_layers(*between):
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(PoemLinear(20, 70), *between, PoemLinear(70, 12)))
    return model, pack(model)[1]


@pytest.mark.parametrize(
    'between', [(), (nn.PReLU(), )], ids=['bits', 'floats'])
@pytest.mark.parametrize('shape', [(20, ), (5, 20), (2, 3, 20), (0, 20)])
def test_linear_layers_take_tokens(shape, between):
    model, packed = linear_layers(*between)
    x = torch.randn(shape)
    y = packed(x)
    assert torch.allclose(y, model(x), atol=1e-5)
    set_twin(packed, 'folded')
    assert same_bits(packed(x), y)


@pytest.mark.parametrize('between, first', [((), 'bits'),
                                            ((nn.PReLU(), ), 'fused')])
def test_a_row_goes_through_linear_operators_only(between, first):
    """Views and lists would take longer than a small layer."""
    _, packed = linear_layers(*between)
    x = torch.randn(1, 20)
    packed(x)
    with Operators() as seen:
        packed(x)
    # those that convert nothing are cheap
    ours = [name for name in seen.names if name != 'aten::to.dtype']
    pack = ['mmcompress::binary_linear_pack'] if first == 'bits' else []
    assert ours == [
        *pack, f'mmcompress::binary_linear_{first}',
        'mmcompress::binary_linear_fused'
    ]


def test_real_weights_are_refused():
    model = nn.Sequential(IDaDetConv2d(8, 8, 3, binary_weight=False))
    with pytest.raises(ValueError, match='binary_weight=False'):
        pack(model)


def test_a_model_without_one_bit_layers_is_refused():
    with pytest.raises(ValueError, match='no 1-bit layer'):
        pack(nn.Sequential(nn.Conv2d(3, 3, 1)))


def test_a_float64_model_packs_in_float32():
    torch.manual_seed(0)
    model = as_if_trained(
        nn.Sequential(IDaDetConv2d(8, 8, 3), nn.BatchNorm2d(8))).double()
    _, packed = pack(model)
    assert packed[0].scale.dtype == torch.float32
    x = torch.randn(1, 8, 5, 5)
    y, = tensors_of(packed(x))
    assert torch.allclose(y.double(), model(x.double()), atol=1e-5)
