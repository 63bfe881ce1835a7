import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d

GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=3, padding=1, stride=2),
    dict(kernel_size=(1, 3), padding=(0, 1)),
    dict(kernel_size=3, padding=2, dilation=2),
    dict(kernel_size=3, padding=1, groups=2),
    dict(kernel_size=1, bias=False),
]


def randn(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **kwargs)


def conv_of(in_channels=4, out_channels=6, **kwargs):
    torch.manual_seed(0)
    kwargs = dict(dict(kernel_size=3, padding=1), **kwargs)
    return IDaDetConv2d(in_channels, out_channels, **kwargs)


@pytest.mark.parametrize('zero_as, expected', [('neg', -1), ('zero', 0)])
def test_zeros_of_input_and_weight_follow_zero_as(zero_as, expected):
    conv = IDaDetConv2d(1, 1, 1, bias=False, zero_as=zero_as, bin=0.5)
    conv.scale.data.fill_(2)
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    conv.weight.data.fill_(3)
    assert conv(zero).item() == expected
    conv.weight.data.zero_()
    assert conv(one).item() == expected


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_equals_the_convolution_with_the_binarised_weight(geometry):
    conv = conv_of(**geometry).double()
    x = randn(2, 4, 7, 9, dtype=torch.double)
    weight = 0.02 * conv.weight.sign() * conv.scale.abs()
    expected = F.conv2d(x.sign(), weight, conv.bias, conv.stride, conv.padding,
                        conv.dilation, conv.groups)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('variant', ['fixed', 'official'])
def test_negative_scales_count_as_positive_ones(variant):
    conv = conv_of(variant=variant)
    x = randn(2, 4, 5, 5)
    expected = conv(x)
    conv.scale.data.neg_()
    assert torch.equal(conv(x), expected)


@pytest.mark.parametrize('variant', ['fixed', 'official'])
def test_gradients_of_weight_and_scale_follow_the_definition(variant):
    conv = conv_of(variant=variant).double()
    conv.scale.data.mul_(torch.tensor([1, -1] * 3).view(-1, 1, 1, 1))
    x = randn(2, 4, 5, 5, dtype=torch.double)
    cotangent = randn(2, 6, 5, 5, seed=1, dtype=torch.double)
    conv(x).backward(cotangent)
    with torch.no_grad():
        conv.before_step()

    w, s = conv.weight.detach(), conv.scale.detach()
    w_hat = (0.02 * w.sign() * s.abs()).requires_grad_()
    F.conv2d(x.sign(), w_hat, None, padding=1).backward(cotangent)
    error = 1e-4 * (w - w_hat.detach())
    scale_grad = (w_hat.grad * w).sum((1, 2, 3), keepdim=True) - (
        error * 0.02 * w.sign()).sum((1, 2, 3), keepdim=True)  # yapf: disable
    if variant == 'fixed':
        scale_grad = scale_grad * s.sign()
    torch.testing.assert_close(conv.weight.grad, w_hat.grad * s.abs() + error)
    torch.testing.assert_close(conv.scale.grad, scale_grad)


def test_reconstruction_alone_pulls_weight_and_scale_together():
    conv = conv_of(recon_weight=1.0)
    with torch.no_grad():
        conv.scale.mul_(3)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)

    def error():
        return (conv.weight - 0.02 * conv.weight.sign() * conv.scale).norm()

    before = error().item()
    for _ in range(20):
        optimizer.zero_grad()
        (conv(randn(1, 4, 3, 3)) * 0).sum().backward()
        optimizer.step()
    assert error() < 0.2 * before


@pytest.mark.parametrize('float_bias', [True, False])
def test_loads_a_float_checkpoint(float_bias):
    source = nn.Conv2d(4, 6, 3, bias=float_bias)
    conv = conv_of()
    keys = conv.load_state_dict(source.state_dict(), strict=float_bias)
    assert not keys.missing_keys
    torch.testing.assert_close(conv.weight, source.weight)
    torch.testing.assert_close(
        0.02 * conv.scale.flatten(),
        source.weight.abs().mean((1, 2, 3)),
        check_stride=False)
    expected = source.bias if float_bias else torch.zeros(6)
    torch.testing.assert_close(conv.bias.detach(), expected.detach())


def test_its_own_checkpoint_keeps_scale_and_bias():
    source = conv_of()
    source.scale.data.normal_()
    conv = conv_of()
    conv.load_state_dict(source.state_dict())
    assert torch.equal(conv.scale, source.scale)
    assert torch.equal(conv.bias, source.bias)


def test_scale_matches_the_weight_after_initialisation_by_mmengine():
    module = ConvModule(
        4, 6, 3, conv_cfg=dict(type='mmcompress.IDaDetConv2d'), act_cfg=None)
    conv = module.conv
    assert isinstance(conv, IDaDetConv2d)
    nn.init.normal_(conv.weight, std=3)
    conv.init_weights()
    torch.testing.assert_close(0.02 * conv.scale.detach().flatten(),
                               conv.weight.detach().abs().mean((1, 2, 3)))


def test_real_weights_leave_a_convolution_of_signs():
    conv = conv_of(binary_weight=False)
    x = randn(1, 4, 5, 5)
    expected = F.conv2d(x.sign(), conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), expected)
    assert list(conv.state_dict()) == ['weight', 'bias']


def test_a_checkpoint_with_real_weights_starts_the_second_step():
    first, second = conv_of(binary_weight=False), conv_of()
    first.weight.data.mul_(5)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(0.02 * second.scale.detach().flatten(),
                               first.weight.detach().abs().mean((1, 2, 3)))


@pytest.mark.parametrize('wrong', [
    dict(variant='paper'),
    dict(bin=0),
])
def test_rejects_by_name_what_it_cannot_do(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        conv_of(**wrong)
