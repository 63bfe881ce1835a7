import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import XNORConv2d, XNORLinear
from mmcompress.binary.layers.xnor import xnor_latent, xnor_weight


@golden('xnor')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def test_latent_weights_are_centred_over_channels_then_clamped():
    weight = torch.tensor([[3.0, 0, 0], [0.3, 0.6, 0.9]])
    expected = torch.tensor([[1, -1, -1], [-0.3, 0, 0.3]])
    torch.testing.assert_close(xnor_latent(weight), expected)


def test_a_constant_added_to_a_tap_of_all_channels_changes_nothing():
    torch.manual_seed(0)
    conv, x = XNORConv2d(4, 6, 3).double(), torch.randn(2, 4, 5, 5).double()
    before = conv(x)
    conv.weight.data += torch.randn(6, 1, 3, 3)
    torch.testing.assert_close(conv(x), before)


def test_the_gradient_is_the_ports():
    torch.manual_seed(0)
    weight = torch.randn(5, 4, 3, 3, dtype=torch.double, requires_grad=True)
    G = torch.randn(5, 4, 3, 3, dtype=torch.double)
    xnor_weight(weight).backward(G)
    W, n = xnor_latent(weight.detach()), 36
    expected = torch.empty_like(G)
    for o in range(5):
        alpha = W[o].abs().mean()
        for i in range(4):
            own = alpha * G[o, i]
            shared = W[o, i].sign() * (W[o].sign() * G[o]).sum() / n
            expected[o, i] = n * (1 - 1 / 4) * (own + shared)
    torch.testing.assert_close(weight.grad, expected)


def test_the_optimizer_starts_from_the_latent_weight():
    torch.manual_seed(0)
    conv = XNORConv2d(4, 6, 3)
    conv.weight.data.normal_(std=2)
    before = conv.weight.clone()
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    assert torch.equal(conv.weight, before)
    torch.optim.SGD(conv.parameters(), lr=1e-3).step()
    expected = xnor_latent(before) - 1e-3 * conv.weight.grad
    torch.testing.assert_close(conv.weight, expected)


def test_real_weights_are_left_alone_by_the_optimizer():
    conv = XNORConv2d(4, 6, 3, binary_weight=False)
    conv.weight.data.normal_(std=2)
    before = conv.weight.clone()
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    torch.optim.SGD(conv.parameters(), lr=0).step()
    assert torch.equal(conv.weight, before)


def test_a_linear_layer_is_a_convolution_of_one_tap():
    torch.manual_seed(0)
    linear, conv = XNORLinear(4, 6), XNORConv2d(4, 6, 1)
    conv.load_state_dict({
        'weight': linear.weight[..., None, None],
        'bias': linear.bias
    })
    x = torch.randn(2, 7, 4)
    y = linear(x)
    expected = conv(x.mT[..., None])[..., 0].mT
    assert torch.equal(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(linear.weight.grad, conv.weight.grad[..., 0, 0])


def test_the_input_passes_gradients_inside_of_minus_one_and_one():
    linear = XNORLinear(2, 1, bias=False)
    x = torch.tensor([[0.99, 1.0], [-1.0, -0.99]], requires_grad=True)
    linear(x).sum().backward()
    w_hat = linear.binarize_weight()[0].detach()
    assert torch.equal(x.grad, torch.eye(2) * w_hat)
    assert F.linear(x.sign(), w_hat).equal(linear(x)[:, 0])


@pytest.mark.parametrize('build', [
    lambda: XNORConv2d(4, 4, 3, groups=4), lambda: XNORConv2d(1, 4, 3),
    lambda: XNORLinear(1, 4)
])
def test_rejects_a_single_channel_which_centring_makes_zero(build):
    with pytest.raises(ValueError, match='in_channels / groups'):
        build()
