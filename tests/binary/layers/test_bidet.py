import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import BiDetConv2d, BiDetLinear


@golden('bidet')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_the_border_counts_as_minus_one_on_the_right_axes():
    conv = BiDetConv2d(1, 1, (3, 1), padding=(1, 0), bias=False)
    conv.weight.data.fill_(1)
    y = conv(torch.ones(1, 1, 2, 3))
    assert y.shape == (1, 1, 2, 3)
    assert (y == 1).all()
    conv = BiDetConv2d(1, 1, (1, 3), padding=(0, 2), bias=False)
    conv.weight.data.fill_(1)
    assert conv(torch.ones(1, 1, 1, 2)).tolist() == [[[[-1, 1, 1, -1]]]]


def test_the_gradient_differentiates_the_mean():
    torch.manual_seed(0)
    conv = BiDetConv2d(4, 6, 3, bias=False).double()
    x, w = torch.randn(2, 4, 5, 5).double(), conv.weight.detach()
    y = conv(x)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    w_hat = conv.binarize_weight().detach().requires_grad_()
    F.conv2d(x.sign(), w_hat).backward(cotangent)
    G, dims = w_hat.grad, dict(dim=(1, 2, 3), keepdim=True)
    expected = G * w.abs().mean(**dims) + w.sign() * (G * w.sign()).mean(
        **dims)  # yapf: disable
    torch.testing.assert_close(conv.weight.grad, expected)


def test_the_linear_layer_has_no_scale():
    torch.manual_seed(0)
    linear = BiDetLinear(5, 3, bias=False)
    x = torch.randn(4, 5)
    y = linear(x)
    assert torch.equal(y, x.sign() @ linear.weight.sign().T)
    y.sum().backward()
    torch.testing.assert_close(linear.weight.grad,
                               x.sign().sum(0).expand(3, 5))
    assert linear.inference_rule().scale.tolist() == [1, 1, 1]


@pytest.mark.parametrize('cls, args', [(BiDetConv2d, (1, 1, 1)),
                                       (BiDetLinear, (1, 1))])
@pytest.mark.parametrize('ste, derivative', [('bireal', 1.0), ('clip', 1.0),
                                             ('bireal', 1.5)])
def test_the_gradient_of_the_input_is_chosen(cls, args, ste, derivative):
    layer = cls(*args, bias=False, ste=ste)
    layer.weight.data.fill_(1)
    # 2 - 2 * |x| = derivative, or clipped: 1
    x = torch.full((1, 1, 1, 1), 1 - derivative / 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.item() == derivative


@pytest.mark.parametrize('cls, args', [(BiDetConv2d, (1, 1, 1)),
                                       (BiDetLinear, (1, 1))])
def test_rejects_an_unknown_ste(cls, args):
    with pytest.raises(ValueError, match="ste must be 'bireal' or 'clip'"):
        cls(*args, ste='identity')
