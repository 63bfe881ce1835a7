"""What holds for all 1-bit layers."""
import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import build_conv_layer
from mmengine.model import BaseModule

import mmcompress.compat  # noqa: F401
from mmcompress.binary import (BiDetConv2d, BiDetLinear, BiRealConv2d,
                               IDaDetConv2d, RBONNConv2d, ReActConv2d,
                               ReBNNConv2d, XNORConv2d, XNORLinear,
                               binary_conv2d, binary_linear, binary_sign)
from mmcompress.lowbit import ReplaceConvs
from mmcompress.registry import MODELS

CONVS = [
    XNORConv2d, BiRealConv2d, ReActConv2d, BiDetConv2d, IDaDetConv2d,
    ReBNNConv2d, RBONNConv2d
]
LINEARS = [XNORLinear, BiDetLinear]
GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2, bias=False),
    dict(kernel_size=(1, 3), padding=(0, 1)),
    dict(kernel_size=3, padding=(2, 1), dilation=2),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=1),
]

every_conv = pytest.mark.parametrize('cls', CONVS)
every_layer = pytest.mark.parametrize('cls', CONVS + LINEARS)
every_geometry = pytest.mark.parametrize('geometry', GEOMETRIES)


def randn(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **kwargs)


def build(cls, in_channels=4, out_channels=6, **kwargs):
    """A layer whose parameters are all different from their initial ones."""
    torch.manual_seed(0)
    if cls in CONVS:
        kwargs = dict(dict(kernel_size=3, padding=1), **kwargs)
    layer = cls(in_channels, out_channels, **kwargs)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.3)
    return layer


def input_of(cls, *size, seed=0):
    x = randn(2, 4, 7, 9, seed=seed)
    return x if cls in CONVS else x.permute(0, 2, 3, 1)


def by_rule(rule, x):
    """Infer with what a packed model knows, in its order of operations."""
    a = torch.where(x > rule.threshold.view(-1, 1, 1), 1.0, -1.0)
    high, wide = rule.padding
    a = F.pad(a, (wide, wide, high, high), value=rule.pad_value)
    k = F.conv2d(a, rule.codes, None, rule.stride, 0, rule.dilation,
                 rule.groups)
    y = rule.scale.view(-1, 1, 1) * k
    return y if rule.bias is None else y + rule.bias.view(-1, 1, 1)


@every_conv
@every_geometry
def test_evaluation_equals_the_inference_rule_bit_for_bit(cls, geometry):
    conv = build(cls, **geometry).eval()
    x = input_of(cls)
    # two ties: where the bit is a matter of rounding
    x[0, 0, 0, 0] = 0
    if cls is ReActConv2d:
        x[0, 1, 3, 3] = -conv.move0.bias[0, 1, 0, 0]
    rule = conv.inference_rule()
    assert set(rule.codes.unique().tolist()) == {-1, 1}
    assert torch.equal(conv(x), by_rule(rule, x))


@pytest.mark.parametrize('cls', LINEARS)
@pytest.mark.parametrize('bias', [True, False])
def test_linear_evaluation_equals_the_inference_rule(cls, bias):
    layer = build(cls, bias=bias).eval()
    x = input_of(cls)
    rule = layer.inference_rule()
    assert rule.codes.shape == (6, 4, 1, 1)
    expected = by_rule(rule, x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer(x[0, 0, 0]), expected[0, 0, 0])


@every_layer
def test_training_computes_what_evaluation_does(cls):
    layer, x = build(cls), input_of(cls)
    assert torch.equal(layer.train()(x), layer.eval()(x))


@every_layer
def test_the_rule_is_of_evaluation_and_has_no_gradient(cls):
    layer = build(cls)
    if cls is RBONNConv2d:
        layer.prev_grad.normal_()
    rule = layer.train().inference_rule()
    expected = layer.eval().inference_rule()
    for name in ('codes', 'scale', 'bias', 'threshold'):
        assert torch.equal(getattr(rule, name), getattr(expected, name))
        assert not getattr(rule, name).requires_grad
    assert (rule.scale >= 0).all()
    assert rule.pad_value == (-1 if cls is BiDetConv2d else 0)


@every_layer
def test_negating_the_weight_negates_the_output(cls):
    layer, x = build(cls, bias=False), input_of(cls)
    before = layer(x)
    layer.weight.data.neg_()
    torch.testing.assert_close(layer(x), -before)


@pytest.mark.parametrize(
    'cls', [XNORConv2d, BiRealConv2d, ReActConv2d, BiDetConv2d, XNORLinear])
def test_scaling_the_weight_scales_the_output(cls):
    layer, x = build(cls, bias=False), input_of(cls)
    before = layer(x)
    layer.weight.data.mul_(0.5)
    torch.testing.assert_close(layer(x), 0.5 * before)


@pytest.mark.parametrize('cls',
                         [IDaDetConv2d, ReBNNConv2d, RBONNConv2d, BiDetLinear])
def test_scaling_the_weight_changes_nothing_where_the_scale_is_learnt(cls):
    layer, x = build(cls), input_of(cls)
    before = layer(x)
    layer.weight.data.mul_(0.5)
    assert torch.equal(layer(x), before)


@every_layer
@pytest.mark.parametrize('zero_as, expected', [('neg', -1), ('zero', 0)])
def test_zeros_of_the_input_follow_zero_as(cls, zero_as, expected):
    layer = build(cls, zero_as=zero_as, bias=False)
    if cls is ReActConv2d:
        layer.move0.bias.data.zero_()
    x = torch.zeros_like(input_of(cls))
    assert torch.equal(layer(x), layer(x + expected))


@every_layer
@pytest.mark.parametrize('zero_as, expected', [('neg', -1), ('zero', 0)])
def test_zeros_of_the_weight_follow_zero_as(cls, zero_as, expected):
    layer = build(cls, zero_as=zero_as)
    layer.weight.data[0] = 0
    signs = layer.binarize_weight()[0].sign().unique().tolist()
    # the mean of zeros scales by 0
    learnt = IDaDetConv2d, ReBNNConv2d, RBONNConv2d, BiDetLinear
    assert signs == [expected if cls in learnt else 0]


@every_layer
def test_every_parameter_learns(cls):
    layer = build(cls)
    layer(input_of(cls)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        # u waits for a previous gradient
        assert parameter.grad is not None, name
        assert name == 'u' or parameter.grad.abs().max() > 0, name


@every_conv
def test_the_gradient_of_the_bias_is_that_of_a_float_convolution(cls):
    conv = build(cls)
    y = conv(input_of(cls))
    cotangent = randn(*y.shape, seed=1)
    y.backward(cotangent)
    torch.testing.assert_close(conv.bias.grad, cotangent.sum((0, 2, 3)))


@every_layer
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_autocast_changes_neither_output_nor_gradients(cls, dtype):
    layer, x = build(cls), input_of(cls)
    twin = copy.deepcopy(layer)
    y = layer(x)
    y.square().sum().backward()
    with torch.autocast('cpu', dtype):
        actual = twin(x)
    assert torch.equal(actual, y)
    actual.square().sum().backward()
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(parameter.grad,
                                   layer.get_parameter(name).grad)


@every_layer
@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_stays_half_and_finite(cls, dtype):
    layer = build(cls).to(dtype)
    x = (300 * input_of(cls)).to(dtype).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    for value in (y, x.grad, *[p.grad for p in layer.parameters()]):
        assert value.isfinite().all()
    rule = layer.inference_rule()
    assert rule.scale.dtype == rule.threshold.dtype == torch.float32


@every_layer
@pytest.mark.parametrize('batch', [0, 1])
def test_empty_batches_and_single_images_work(cls, batch):
    layer, x = build(cls), input_of(cls)[:batch]
    y = layer(x)
    assert len(y) == batch
    y.sum().backward()
    assert layer.weight.grad.isfinite().all()


@every_layer
@pytest.mark.parametrize('float_bias', [True, False])
def test_loads_a_float_checkpoint(cls, float_bias):
    layer = build(cls)
    if cls in CONVS:
        source = nn.Conv2d(4, 6, 3, bias=float_bias)
    else:
        source = nn.Linear(4, 6, bias=float_bias)
    keys = layer.load_state_dict(source.state_dict())
    assert not keys.missing_keys
    assert torch.equal(layer.weight, source.weight)
    expected = source.bias if float_bias else torch.zeros(6)
    assert torch.equal(layer.bias, expected)
    if cls is ReActConv2d:
        assert not layer.move0.bias.any()


@every_layer
def test_a_missing_weight_is_missing(cls):
    with pytest.raises(RuntimeError, match='Missing.*weight'):
        build(cls).load_state_dict({})


@every_layer
def test_its_own_checkpoint_restores_everything(cls):
    source, layer = build(cls), build(cls)
    for tensor in source.state_dict().values():
        tensor.copy_(torch.randint(-1, 2, tensor.shape))
    layer.load_state_dict(source.state_dict())
    for key, value in source.state_dict().items():
        assert torch.equal(layer.state_dict()[key], value), key


@every_conv
def test_a_flat_weight_of_an_official_checkpoint_loads(cls):
    source = build(cls)
    state = source.state_dict()
    state['weights'] = state.pop('weight').view(-1, 1)
    layer = build(cls)
    layer.weight.data.zero_()
    layer.load_state_dict(state)
    assert torch.equal(layer.weight, source.weight)


@every_layer
def test_real_weights_leave_a_layer_of_signs(cls):
    layer, x = build(cls, binary_weight=False), input_of(cls)
    names = {'weight', 'bias', *({'move0.bias'} & set(layer.state_dict()))}
    assert set(layer.state_dict()) == names
    if cls in LINEARS:
        expected = F.linear(x.sign(), layer.weight, layer.bias)
    else:
        shift = layer.move0.bias if cls is ReActConv2d else 0
        value = -1 if cls is BiDetConv2d else 0
        signs = F.pad((x + shift).sign(), (1, 1, 1, 1), value=value)
        expected = F.conv2d(signs, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)
    with pytest.raises(ValueError, match='binary_weight'):
        layer.inference_rule()


@every_layer
def test_the_first_step_starts_the_second(cls):
    first, second = build(cls, binary_weight=False), build(cls)
    first.weight.data.mul_(5)
    first(input_of(cls)).sum().backward()
    torch.optim.SGD(first.parameters(), lr=0.01).step()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.weight, first.weight)


@every_layer
def test_a_copy_is_independent(cls):
    layer, x = build(cls), input_of(cls)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x), layer(x))
    before = layer(x)
    for parameter in twin.parameters():
        parameter.data.normal_()
    assert torch.equal(layer(x), before)


@every_conv
def test_is_built_by_conv_cfg_and_found_as_a_convolution(cls):

    class Model(BaseModule):

        def __init__(self, init_cfg):
            super().__init__(init_cfg)
            self.conv = build_conv_layer(
                dict(type=f'mmcompress.{cls.__name__}'), 4, 6, 3, padding=1)

    model = Model(dict(type='Constant', layer='Conv2d', val=3, bias=2))
    assert isinstance(model.conv, cls) and isinstance(model.conv, nn.Conv2d)
    model.init_weights()
    assert (model.conv.weight == 3).all() and (model.conv.bias == 2).all()


@every_conv
def test_replaces_the_convolutions_of_a_model(cls):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, bias=False), nn.ReLU())
    weight = model[1].weight
    ReplaceConvs(dict(type=cls.__name__), include=['1'])(model)
    assert type(model[0]) is nn.Conv2d and type(model[1]) is cls
    assert torch.equal(model[1].weight, weight)
    assert model[1].bias is None


@pytest.mark.parametrize('cls', CONVS)
def test_every_convolution_of_an_mmdet_backbone_becomes_binary(cls):
    from mmdet.models import ResNet
    backbone = ResNet(
        18,
        base_channels=8,
        stem_channels=8,
        conv_cfg=dict(type=f'mmcompress.{cls.__name__}'))
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 20 and all(isinstance(m, cls) for m in convs)


def test_linear_layers_are_built_by_name():
    for cls in LINEARS:
        layer = MODELS.build(
            dict(
                type=f'mmcompress.{cls.__name__}',
                in_features=4,
                out_features=6))
        assert type(layer) is cls and isinstance(layer, nn.Linear)


@every_layer
@pytest.mark.parametrize('wrong', [dict(zero_as='one'), dict(zero_as=None)])
def test_rejects_an_unknown_sign_of_zero(cls, wrong):
    with pytest.raises(ValueError, match="zero_as must be 'neg' or 'zero'"):
        build(cls, **wrong)


@every_conv
@pytest.mark.parametrize(
    'wrong',
    [dict(padding='same'), dict(padding_mode='reflect')])
def test_rejects_by_name_a_padding_it_cannot_do(cls, wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        build(cls, **wrong)


@every_geometry
def test_gradients_of_the_counting_convolution_are_the_convolutions(geometry):
    conv = nn.Conv2d(4, 6, **geometry).double()
    geometry = conv.stride, conv.padding, conv.dilation, conv.groups
    signs = randn(2, 4, 7, 9, dtype=torch.double).sign().requires_grad_()
    alpha = torch.arange(6, dtype=torch.double).view(-1, 1, 1, 1)
    weight = (alpha * conv.weight.sign()).detach().requires_grad_()
    expected = F.conv2d(signs, weight, None, *geometry)
    cotangent = randn(*expected.shape, seed=1, dtype=torch.double)
    expected = torch.autograd.grad(expected, (signs, weight), cotangent)
    actual = torch.autograd.grad(
        binary_conv2d(signs, weight, *geometry), (signs, weight), cotangent)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize('leading', [(), (3, ), (2, 5), (0, ), (2, 0)])
def test_the_counting_linear_layer_is_a_linear_layer(leading):
    signs = randn(*leading, 4, dtype=torch.double).sign().requires_grad_()
    alpha = torch.arange(6, dtype=torch.double).view(-1, 1)
    weight = (alpha * randn(6, 4).sign()).requires_grad_()
    expected = F.linear(signs, weight)
    actual = binary_linear(signs, weight)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual.square().sum(), (signs, weight)),
        torch.autograd.grad(expected.square().sum(), (signs, weight)))


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_counts_are_exact_under_autocast(dtype):
    # all signs agree but few: counts near 4608, odd and even
    signs = torch.ones(1, 512, 6, 6)
    signs.flatten()[::997] = -1
    weight = torch.ones(2, 512, 3, 3)
    with torch.autocast('cpu', dtype):
        actual = binary_conv2d(signs, weight)
    expected = F.conv2d(binary_sign(signs).double(), weight.double())
    assert torch.equal(actual.double(), expected)
