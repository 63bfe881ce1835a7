import copy
import pickle

import pytest
import torch
import torch.nn as nn
from golden import assert_golden, golden
from torch.utils.checkpoint import checkpoint

from mmcompress.binary import PoemConv1d, PoemLinear
from mmcompress.binary.layers.poem import (em_pull, em_step,
                                           expectation_maximization,
                                           extra_gradients, matching_alpha,
                                           reconstruction_loss, sign_split)
from mmcompress.binary.layers.sign import clipped_sign
from mmcompress.registry import MODELS


def randn(*shape, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, **kwargs)


def linear_of(c_in=12, c_out=6, **kwargs):
    torch.manual_seed(0)
    return PoemLinear(c_in, c_out, **kwargs)


def backward(layer, x, factor=1.0):
    (factor * (layer(x) * randn(*layer(x).shape, seed=1)).sum()).backward()


@golden('poem')
def test_equals_the_fixture(case):
    assert_golden(case)


def test_split_counts_zeros_as_positive():
    theta = sign_split(torch.tensor([[-1.0, -3], [0, 4]]))
    assert theta.tolist() == [[0.5, -2, 1], [0.5, 2, 4]]


def test_probabilities_sum_to_one():
    weight = randn(7, 9)
    xi, theta = em_step(weight, sign_split(weight))
    assert xi.shape == (2, 7, 9)
    torch.testing.assert_close(xi.sum(0), torch.ones(7, 9))
    torch.testing.assert_close(theta[:, 0].sum(), torch.tensor(1.0))


def test_a_step_raises_the_likelihood():
    weight = randn(500).double()

    def log_likelihood(theta):
        beta, mean, variance = theta.T
        normal = torch.distributions.Normal(mean, variance.sqrt())
        logs = normal.log_prob(weight[:, None]) + beta.log()
        return logs.logsumexp(-1).sum()

    thetas = [sign_split(weight)]
    for _ in range(4):
        thetas.append(em_step(weight, thetas[-1])[1])
    values = torch.stack([log_likelihood(theta) for theta in thetas])
    assert (values.diff() > 0).all()


def test_pull_is_zero_outside_of_the_means():
    weight = randn(40, 40)
    xi, theta = em_step(weight, sign_split(weight))
    low, high = theta[:, 1].sort().values
    outside = (weight <= low) | (weight >= high)
    pull = em_pull(weight, xi, theta)
    assert outside.any() and (pull[outside] == 0).all()
    assert (pull[~outside] != 0).all()


def test_pull_of_bimodal_weights_goes_away_from_zero():
    weight = 0.05 * randn(64, 64) + 0.3 * randn(64, 64, seed=1).sign()
    pull = expectation_maximization(weight)
    inside = pull != 0
    assert inside.any()
    assert (pull[inside].sign() == weight[inside].sign()).all()


def test_pull_makes_gaussian_weights_bimodal():
    weight = 0.1 * randn(4096)
    first, std = weight.clone(), weight.std()
    assert (weight.abs() < 0.2 * std).float().mean() > 0.1
    for _ in range(400):
        weight += 0.05 * expectation_maximization(weight)
    assert (weight.abs() < 0.2 * std).float().mean() < 0.02
    assert (weight.sign() != first.sign()).float().mean() < 0.01


@pytest.mark.parametrize('weight', [
    torch.full((3, 4), 0.5),
    torch.cat([torch.tensor([-0.5]), torch.rand(11)]),
    torch.zeros(3, 4),
    -torch.rand(8),
])
def test_pull_is_zero_where_a_side_has_fewer_than_two_weights(weight):
    assert (expectation_maximization(weight) == 0).all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16, torch.float])
def test_pull_of_equal_weights_is_finite(dtype):
    weight = torch.tensor([-0.25, -0.25, 0.25, 0.25])
    assert expectation_maximization(weight).isfinite().all()
    layer = linear_of(4, 3).to(dtype)
    backward(layer, randn(5, 4, dtype=dtype))
    with torch.no_grad():
        layer.before_step()
    assert layer.weight.grad.dtype == dtype
    assert layer.weight.grad.isfinite().all()


def test_derivative_of_the_sign_includes_the_ends():
    x = torch.tensor([-1.5, -1, -0.5, 0, 1, 1.5], requires_grad=True)
    y = clipped_sign(x, closed=True)
    y.sum().backward()
    assert y.tolist() == [-1, -1, -1, -1, 1, 1]
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


def test_reconstruction_gradients_are_those_of_its_loss():
    weight = randn(5, 7).double()
    alpha = randn(5, seed=1).double().requires_grad_()
    signs = torch.where(weight > 0, 1.0, -1.0)
    leaf = weight.clone().requires_grad_()
    error = leaf - alpha.abs()[:, None] * signs
    (0.3 * 0.5 * error.square().sum()).backward()
    grads = extra_gradients(weight, alpha.detach(), 0.3, 0)
    torch.testing.assert_close(grads, (leaf.grad, alpha.grad))
    torch.testing.assert_close(
        reconstruction_loss(weight, alpha), 0.5 * error.square().sum())


def test_mean_magnitude_is_where_alpha_rests():
    weight = randn(5, 7)
    _, grad = extra_gradients(weight, matching_alpha(weight), 1, 0)
    torch.testing.assert_close(grad, torch.zeros(5))


def test_reconstruction_pulls_alpha_to_the_mean_magnitude():
    weight, alpha = randn(5, 7), -0.1 * torch.ones(5)
    for _ in range(200):
        alpha -= 0.01 * extra_gradients(weight, alpha, 1, 0)[1]
    torch.testing.assert_close(alpha.abs(), matching_alpha(weight))


@pytest.mark.parametrize('layer, shape, c_out', [
    (PoemLinear(70, 33), (2, 5, 70), -1),
    (PoemConv1d(70, 33), (2, 70, 5), 1),
])
def test_output_is_alpha_times_an_exact_count(layer, shape, c_out):
    x = randn(*shape)
    y = layer(x)
    rule = layer.inference_rule()
    signs = torch.where(x > 0, 1, -1).movedim(1 if c_out == 1 else -1, -1)
    count = signs @ rule.codes[:, :, 0, 0].to(signs).T
    expected = (count * layer.alpha.abs()).movedim(-1, c_out)
    assert torch.equal(y, expected)
    assert torch.equal(rule.scale, layer.alpha.abs())
    assert rule.bias is None and (rule.threshold == 0).all()


def test_conv_is_the_linear_layer_of_each_point():
    linear = PoemLinear(12, 6, bias=True)
    conv = PoemConv1d(12, 6, bias=True)
    state = linear.state_dict()
    conv.load_state_dict(dict(state, weight=state['weight'][..., None]))
    x = randn(3, 12, 5)
    assert torch.equal(conv(x), linear(x.transpose(1, 2)).transpose(1, 2))


def test_sign_of_alpha_does_not_matter():
    layer = linear_of()
    x = randn(4, 12)
    y = layer(x)
    layer.alpha.data.neg_()
    assert torch.equal(layer(x), y)
    layer(x).sum().backward()
    grad = layer.alpha.grad.clone()
    layer.alpha.data.neg_()
    layer.alpha.grad = None
    layer(x).sum().backward()
    assert torch.equal(layer.alpha.grad, -grad)


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_counts_are_exact_under_autocast(dtype):
    layer, x = linear_of(3000, 4), randn(2, 3000)
    with torch.autocast('cpu', dtype):
        y = layer(x)
    assert y.dtype == torch.float
    assert torch.equal(y, layer(x))


def test_negative_zero_and_nan_inputs_are_negative():
    layer = linear_of(2, 3)
    y = layer(torch.tensor([[-0.0, 0.0], [torch.nan, -1.0]]))
    assert torch.equal(y[0], y[1])


def step(layer, lr=0.1):
    optimizer = torch.optim.SGD(layer.parameters(), lr)
    optimizer.step()
    return layer.state_dict()


def test_the_optimizer_gets_the_extra_gradients():
    layer, x = linear_of(rec_weight=0.1, em_weight=0.5), randn(4, 12)
    plain = linear_of(rec_weight=0, em_weight=0)
    extra = extra_gradients(layer.weight.detach(), layer.alpha.detach(), 0.1,
                            0.5)
    for each in (layer, plain):
        backward(each, x)
    assert torch.equal(layer.weight.grad, plain.weight.grad)
    ours, theirs = step(layer), step(plain)
    assert extra[0].abs().max() > 0.01
    torch.testing.assert_close(ours['weight'],
                               theirs['weight'] - 0.1 * extra[0])
    torch.testing.assert_close(ours['alpha'], theirs['alpha'] - 0.1 * extra[1])


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_get_the_extra_gradients(copied):
    layer, x = linear_of(em_weight=0.5), randn(4, 12)
    twin = copied(layer)
    for each in (layer, twin):
        backward(each, x)
    assert torch.equal(step(layer)['weight'], step(twin)['weight'])


def test_accumulated_batches_equal_one_batch():
    """Two halves, as mmengine scales their losses."""
    whole, halves = linear_of(em_weight=0.5), linear_of(em_weight=0.5)
    x, grad = randn(8, 12), randn(8, 6, seed=1)
    (whole(x) * grad).sum().div(8).backward()
    for part in (slice(4), slice(4, 8)):
        (halves(x[part]) * grad[part]).sum().div(4).div(2).backward()
    torch.testing.assert_close(step(whole), step(halves))


def test_recomputed_activations_change_nothing():
    plain, recomputed = linear_of(em_weight=0.5), linear_of(em_weight=0.5)
    x, grad = randn(8, 12), randn(8, 6, seed=1)
    plain(x).backward(grad)
    checkpoint(recomputed, x, use_reentrant=False).backward(grad)
    assert torch.equal(plain.weight.grad, recomputed.weight.grad)
    assert torch.equal(step(plain)['weight'], step(recomputed)['weight'])


def test_loss_scale_of_amp_cancels():
    plain, scaled = linear_of(em_weight=0.5), linear_of(em_weight=0.5)
    x = randn(8, 12)
    backward(plain, x)
    expected = step(plain)
    scaler = torch.amp.GradScaler('cpu', init_scale=1024.)
    optimizer = torch.optim.SGD(scaled.parameters(), 0.1)
    scaler.scale((scaled(x) * randn(8, 6, seed=1)).sum()).backward()
    scaler.step(optimizer)
    torch.testing.assert_close(scaled.state_dict(), expected)


@pytest.mark.parametrize('bias', [False, True])
def test_float_checkpoints_load(bias):
    linear, conv = nn.Linear(12, 6, bias=False), nn.Conv1d(12, 6, 1)
    layer = linear_of(bias=bias)
    layer.load_state_dict(linear.state_dict())
    assert torch.equal(layer.weight, linear.weight)
    assert torch.equal(layer.alpha, linear.weight.abs().mean(1))
    points = PoemConv1d(12, 6, bias=True)
    points.load_state_dict(conv.state_dict())
    assert torch.equal(points.bias, conv.bias)


def test_own_checkpoints_keep_alpha():
    layer, other = linear_of(), linear_of()
    layer.alpha.data.fill_(-3)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.alpha, layer.alpha)


def test_alpha_follows_the_initialisation():
    layer = linear_of()
    nn.init.constant_(layer.weight, 0.25)
    layer.init_weights()
    assert (layer.alpha == 0.25).all()


def test_is_registered():
    conv = MODELS.build(
        dict(
            type='mmcompress.PoemConv1d',
            in_channels=4,
            out_channels=3,
            em_weight=0))
    assert conv.em_weight == 0 and conv.bias is None


@pytest.mark.parametrize('build, message', [
    (lambda: PoemLinear(4, 3, rec_weight=-1), 'rec_weight and em_weight'),
    (lambda: PoemLinear(4, 3, em_weight=-1), 'rec_weight and em_weight'),
    (lambda: PoemConv1d(4, 3, 3), 'kernel_size'),
    (lambda: PoemConv1d(4, 4, groups=2), 'groups'),
    (lambda: PoemConv1d(4, 4, stride=2), 'stride'),
    (lambda: PoemConv1d(4, 4, padding=1), 'padding'),
])
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
