import pytest
import torch
import torch.nn.functional as F
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import ReBNNConv2d
from mmcompress.binary.layers.rebnn import balance, flip_ratio
from mmcompress.binary.layers.scaled_sign import (reconstruction_gradients,
                                                  scaled_sign)


@golden('rebnn')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def conv_with_gradient(**kwargs):
    """A layer after a backward, and the gradient of its 1-bit weight."""
    torch.manual_seed(0)
    conv = ReBNNConv2d(4, 6, 3, bias=False, **kwargs).double()
    x = torch.randn(2, 4, 5, 5).double()
    y = conv(x)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    w_hat = conv.binarize_weight().detach().requires_grad_()
    F.conv2d(x.sign(), w_hat).backward(cotangent)
    return conv, w_hat.grad


def flip(conv, channel, number):
    """Pretend that the last step flipped some weights of a channel."""
    conv.prev_sign.copy_(conv.weight.sign())
    conv.prev_sign[channel].flatten()[:number].neg_()


def test_flips_are_counted_by_channel_where_the_past_is_known():
    prev = torch.tensor([[1, -1, 1, -1], [0, 0, 0, 1], [1, 1, 1, 1]])
    now = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1], [1, 1, 0, 1]])
    shape = 3, 4, 1, 1
    ratio = flip_ratio(prev.to(torch.int8).view(shape), now.view(shape))
    assert ratio.flatten().tolist() == [0.5, 0.25, 0.25]


@pytest.mark.parametrize('variant, expected', [
    ('paper', [0.0, 5e-6, 1e-4, 5.0]),
    ('clamped', [1e-5, 1e-5, 1e-4, 2e-4]),
    ('official', [2e-4, 2e-4, 2e-4, 2e-4]),
])
def test_gamma_of_each_variant(variant, expected):
    ratio = torch.tensor([0.0, 0.5, 0.5, 0.5])
    largest = torch.tensor([9.0, 1e-5, 2e-4, 10])
    gamma = balance(ratio, largest, variant, (1e-5, 2e-4))
    torch.testing.assert_close(gamma.tolist(), expected)


def test_the_gradient_that_gamma_sees_is_that_of_the_binary_weight():
    conv, G = conv_with_gradient(variant='paper')
    flip(conv, channel=2, number=9)
    expected = torch.zeros(6).double()
    expected[2] = 9 / 36 * G[2].abs().max()
    torch.testing.assert_close(conv.gamma().flatten(), expected)


def test_a_channel_of_scale_zero_has_a_finite_gradient():
    conv, _ = conv_with_gradient()
    conv.scaling_factor.data[3] = 0
    conv.weight.grad[3] = 0
    conv.scaling_factor.grad[3] = 0
    with torch.no_grad():
        conv.before_step()
    assert conv.weight.grad.isfinite().all()
    assert conv.scaling_factor.grad[3] == 0


def test_without_flips_the_papers_gradient_is_the_losses():
    conv, G = conv_with_gradient(variant='paper')
    before = conv.weight.grad.clone()
    with torch.no_grad():
        conv.before_step()
    assert torch.equal(conv.weight.grad, before)
    torch.testing.assert_close(before, G * conv.scaling_factor.abs())


def test_more_flips_pull_more_towards_the_binary_weight():
    pulls = []
    for number in (1, 4, 16):
        conv, _ = conv_with_gradient(variant='paper')
        flip(conv, channel=2, number=number)
        before = conv.weight.grad.clone()
        with torch.no_grad():
            conv.before_step()
        pull = conv.weight.grad - before
        error = conv.weight - conv.binarize_weight()
        assert not pull[[0, 1, 3, 4, 5]].any()
        # gradient descent makes the error smaller
        assert (pull[2] * error[2] > 0).all()
        pulls.append(pull[2].norm())
    assert pulls[0] < pulls[1] < pulls[2]
    torch.testing.assert_close(pulls[2], 16 * pulls[0])


def test_the_reconstruction_is_a_loss_with_frozen_signs():
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, dtype=torch.double, requires_grad=True)
    scale = torch.randn(6, 1, 1, 1, dtype=torch.double, requires_grad=True)
    gamma = torch.rand(6, 1, 1, 1, dtype=torch.double)
    signs = 0.02 * weight.detach().sign()
    loss = (gamma / 2 * (weight - signs * scale.abs()).square()).sum()
    expected = torch.autograd.grad(loss, (weight, scale))
    actual = reconstruction_gradients(weight.detach(), scale.detach(), gamma,
                                      0.02, 'neg')
    torch.testing.assert_close(actual, expected)


def test_gradients_of_the_loss_follow_the_definition():
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3, dtype=torch.double, requires_grad=True)
    scale = torch.tensor([1.0, -2, 0, 3, -4, 5]).double().view(-1, 1, 1, 1)
    scale.requires_grad_()
    G = torch.randn_like(weight)
    w_hat = scaled_sign(weight, scale, 0.02, 'neg')
    torch.testing.assert_close(w_hat, 0.02 * weight.sign() * scale.abs())
    w_hat.backward(G)
    torch.testing.assert_close(weight.grad, G * scale.abs())
    torch.testing.assert_close(
        scale.grad,
        scale.sign() * (G * weight).sum((1, 2, 3), keepdim=True))


def flips_of_a_run(gamma_clamp):
    """Mean flip ratio in the last fifth of a small regression."""
    torch.manual_seed(0)
    conv = ReBNNConv2d(
        8, 8, 3, bias=False, variant='clamped', gamma_clamp=gamma_clamp)
    conv.weight.data.mul_(0.1)
    conv.scaling_factor.data.fill_(5)
    target = torch.nn.Conv2d(8, 8, 3, bias=False)
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.02)
    ratios = []
    for _ in range(100):
        x = torch.randn(8, 8, 6, 6)
        optimizer.zero_grad()
        (conv(x) - target(x).detach()).square().mean().backward()
        before = conv.weight.sign()
        optimizer.step()
        ratios.append((conv.weight.sign() != before).double().mean())
    return torch.stack(ratios)[-20:].mean()


def test_the_balance_does_not_flip_more_than_no_balance():
    none, some = flips_of_a_run((0, 0)), flips_of_a_run((1e-2, 1))
    assert none > 0
    assert some < none


@pytest.mark.parametrize('wrong', [
    dict(variant='rank'),
    dict(bin=0),
    dict(gamma_clamp=(1, 0)),
    dict(gamma_clamp=(-1, 1))
])
def test_rejects_by_name_what_it_cannot_do(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        ReBNNConv2d(4, 6, 3, **wrong)
