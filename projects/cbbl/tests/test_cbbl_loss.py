import math

import pytest
import torch
from cbbl import (TwoHotLocalizationLoss, cross_entropy, decode, entropy,
                  make_grid, perturbations, two_hot)
from cbbl.entropy_bias import two_point_minimum
from cbbl.one_dimension import train, ways
from cbbl.perturbation import check_ugs
from golden import assert_golden, golden
from mmdet.models.dense_heads.gfl_head import Integral
from mmdet.models.losses import DistributionFocalLoss
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import load_state_dict

RCNN = dict(alpha=5.0, n=5, beta=1.0)
RPN = dict(alpha=2.0, n=10, beta=1.0)


def double_loss(**kwargs):
    loss = TwoHotLocalizationLoss(**kwargs)
    loss.grid = make_grid(**loss.settings)
    return loss


def coordinates(num, num_points, spread=1.0, dtype=torch.double):
    generator = torch.Generator().manual_seed(0)
    options = dict(generator=generator, dtype=dtype)
    return (torch.randn(num, 4, num_points,
                        **options), spread * torch.randn(num, 4, **options))


@golden('cbbl')
def test_matches_the_stored_numbers(case):
    assert_golden(case)


# grids and labels


def test_grids_have_the_published_points():
    inner = [0, .154, .3836, .7263, 1.2374, 2]
    torch.testing.assert_close(
        make_grid(**RPN)[5:], torch.tensor(inner).double(), rtol=0, atol=6e-5)
    torch.testing.assert_close(
        make_grid(**RCNN)[3:],
        torch.tensor([.0583, .6473, 5]).double(),
        rtol=0,
        atol=6e-5)


@pytest.mark.parametrize('beta', [None, 0.3, 1.0, 2.0])
@pytest.mark.parametrize('n', [1, 5, 10])
def test_grids_are_odd_and_increase(n, beta):
    grid = make_grid(3.0, n, beta)
    assert (grid.diff() > 0).all() and len(grid) == n + 1
    torch.testing.assert_close(grid, -grid.flip(0), rtol=0, atol=1e-14)
    assert grid[-1].item() == pytest.approx(3.0)


@pytest.mark.parametrize('one_sided', [False, True])
def test_a_small_beta_is_nearly_uniform(one_sided):
    torch.testing.assert_close(
        make_grid(2.0, 10, 1e-5, one_sided),
        make_grid(2.0, 10, None, one_sided),
        rtol=0,
        atol=2e-5)


def test_a_one_sided_grid_is_half_of_a_two_sided_one():
    torch.testing.assert_close(
        make_grid(2.0, 5, 1.0, one_sided=True),
        make_grid(2.0, 10, 1.0)[5:])


@pytest.mark.parametrize('kwargs, word', [
    (dict(alpha=0.0), 'alpha'),
    (dict(alpha=-1.0), 'alpha'),
    (dict(alpha=math.nan), 'alpha'),
    (dict(n=0), 'n must'),
    (dict(beta=-1.0), 'beta'),
    (dict(beta=math.inf), 'beta'),
    (dict(beta=200.0), 'coincide'),
    (dict(lambda_um=-0.5), 'lambda_um'),
    (dict(lambda_um=math.nan), 'lambda_um'),
    (dict(um_mode='max'), 'um_mode.*max'),
    (dict(reduction='avg'), 'reduction.*avg'),
])
def test_wrong_arguments_are_named(kwargs, word):
    with pytest.raises(ValueError, match=word):
        TwoHotLocalizationLoss(**kwargs)


@pytest.mark.parametrize('n', [10.0, True, '10'])
def test_n_is_an_int(n):
    with pytest.raises(TypeError, match='n must be an int'):
        TwoHotLocalizationLoss(n=n)


@pytest.mark.parametrize('settings', [RCNN, RPN])
def test_labels_mean_their_targets(settings):
    grid = make_grid(**settings)
    _, target = coordinates(50, 1, spread=2 * settings['alpha'])
    left, label = two_hot(target, grid)
    torch.testing.assert_close(label.sum(-1), torch.ones_like(target))
    assert ((label != 0).sum(-1) <= 2).all() and (label >= 0).all()
    assert (label.gather(-1, left[..., None]) +
            label.gather(-1, left[..., None] + 1) == 1).all()
    torch.testing.assert_close((label * grid).sum(-1),
                               target.clamp(grid[0], grid[-1]))


def test_labels_on_points_are_one_hot():
    grid = make_grid(**RPN)
    left, label = two_hot(grid, grid)
    assert torch.equal(label, torch.eye(11, dtype=torch.double))
    assert left.tolist() == [*range(10), 9]


def test_one_hot_logits_decode_to_their_point():
    grid = make_grid(**RPN)
    logits = 1e4 * torch.eye(11, dtype=torch.double)
    torch.testing.assert_close(decode(logits, grid), grid)


def test_what_a_label_means_increases_with_the_target():
    grid = make_grid(**RCNN)
    target = torch.linspace(-5, 5, 101, dtype=torch.double)
    _, label = two_hot(target, grid)
    assert ((label * grid).sum(-1).diff() > 0).all()


# the loss


def test_the_gradient_is_the_prediction_less_the_label():
    loss = double_loss(**RPN, lambda_um=0.0)
    logits, target = coordinates(6, 11)
    logits.requires_grad_()
    weight = torch.rand(6, 4, dtype=torch.double)
    loss(logits, target, weight, avg_factor=3.0).backward()
    _, label = two_hot(target, loss.grid)
    expected = (logits.detach().softmax(-1) - label) * weight[..., None] / 3
    torch.testing.assert_close(logits.grad, expected)
    assert (logits.grad.abs() <= weight[..., None] / 3).all()


@pytest.mark.parametrize('um_mode', ['min', 'match'])
def test_gradient_is_the_derivative(um_mode):
    loss = double_loss(**RCNN, um_mode=um_mode)
    logits, target = coordinates(3, 6)
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(), target))


def test_equals_the_distribution_focal_loss_of_gfl():
    loss = double_loss(
        alpha=16, n=16, beta=None, one_sided=True, lambda_um=0.0)
    logits, target = coordinates(40, 17)
    target = target.abs().mul(8).clamp(max=15.9)
    weight = torch.rand(40, 4, dtype=torch.double)
    ours = loss(logits, target, weight, reduction_override='none')
    flat = logits.reshape(-1, 17), target.reshape(-1), weight.reshape(-1)
    theirs = DistributionFocalLoss(reduction='none')(*flat)
    # mmdet's weights are float32
    torch.testing.assert_close(ours.reshape(-1), theirs, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        loss.decode(logits),
        Integral(16).double()(logits.reshape(40, -1)))


def test_flat_predictions_are_those_of_the_coordinates():
    loss = TwoHotLocalizationLoss(**RPN)
    logits, target = coordinates(6, 11, dtype=torch.float)
    weight = torch.tensor([1., 0, 1, 0, 0, 2])
    expected = loss(logits, target, weight[:, None].expand(6, 4), 4.0)
    assert torch.equal(loss(logits.view(-1, 4), target, weight, 4.0), expected)
    order = torch.randperm(6)
    torch.testing.assert_close(
        loss(logits[order], target[order], weight[order], 4.0), expected)


def test_reductions_agree():
    loss = double_loss(**RPN)
    logits, target = coordinates(6, 11)
    weight = torch.rand(6, dtype=torch.double)
    each = loss(logits, target, weight, reduction_override='none')
    assert each.shape == (6, 4)
    torch.testing.assert_close(loss(logits, target, weight), each.mean())
    torch.testing.assert_close(
        loss(logits, target, weight, reduction_override='sum'), each.sum())
    with pytest.raises(ValueError, match="'sum'.*avg_factor=2.0"):
        loss(logits, target, weight, 2.0, 'sum')


def test_no_target_costs_nothing_and_has_a_gradient():
    loss = TwoHotLocalizationLoss(**RPN)
    logits = torch.randn(7, 4, 11, requires_grad=True)
    for part, weight in ((logits, torch.zeros(7, 4)), (logits[:0], None)):
        value = loss(part, torch.zeros(len(part), 4), weight, 1.0)
        value.backward()
        assert value == 0 and (logits.grad == 0).all()


@pytest.mark.parametrize('dtype', [torch.half, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    loss = TwoHotLocalizationLoss(**RPN)
    logits, target = coordinates(20, 11, dtype=torch.float)
    logits = (50 * logits).to(dtype)
    value = loss(logits, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), target))
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(loss(logits, target), value)
        torch.testing.assert_close(
            loss.decode(logits), loss.decode(logits.float()))


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_targets_that_are_not_finite_are_refused(value):
    loss = TwoHotLocalizationLoss(**RPN)
    logits, target = coordinates(3, 11, dtype=torch.float)
    expected = loss(logits, target, torch.tensor([1., 0, 1]))
    target[1, 2] = value
    with pytest.raises(ValueError, match='1 of 12 box targets'):
        loss(logits, target)
    # without weight it is nobody's target
    for reduction in (None, 'none'):
        actual = loss(
            logits,
            target,
            torch.tensor([1., 0, 1]),
            reduction_override=reduction)
        torch.testing.assert_close(actual.mean(), expected)


def test_shapes_are_checked():
    loss = TwoHotLocalizationLoss(**RPN)
    with pytest.raises(ValueError, match=r'11 logits.*\(3, 4\).*\(3, 4, 6\)'):
        loss(torch.zeros(3, 4, 6), torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r'weights \(2, 1\).*\(3, 4\)'):
        loss(torch.zeros(3, 4, 11), torch.zeros(3, 4), torch.ones(2))


def test_counts_what_is_clamped():
    loss = TwoHotLocalizationLoss(**RPN)
    target = torch.tensor([[0, 1, 2, 2.5], [-3, -2, 0, 0], [9, 9, 9, 9]])
    with loss.recording() as record:
        loss(torch.zeros(3, 4, 11), target, torch.tensor([1., 1, 0]), 1.0)
        loss(torch.zeros(1, 4, 11), torch.zeros(1, 4))
    assert record.clamped_share(target).item() == pytest.approx(2 / 12)
    with loss.recording() as record:
        pass
    assert record.clamped_share(target) == 0


def test_a_record_lasts_longer_than_one_inside_of_it():
    loss = TwoHotLocalizationLoss(**RPN)
    logits, target = torch.zeros(2, 4, 11), torch.zeros(2, 4)
    with loss.recording() as outer:
        for _ in range(2):
            with loss.recording() as inner:
                loss(logits, target)
    loss(logits, target)
    assert len(outer.inputs) == 2 and len(inner.inputs) == 1


def test_weights_of_another_grid_are_refused():
    saved = TwoHotLocalizationLoss(**RPN).state_dict()
    TwoHotLocalizationLoss(**RPN).load_state_dict(saved)
    half = {key: value.half() for key, value in saved.items()}
    TwoHotLocalizationLoss(**RPN).load_state_dict(half)
    other = TwoHotLocalizationLoss(alpha=2.0, n=10, beta=1.02)
    for load in (other.load_state_dict, lambda x: load_state_dict(other, x)):
        with pytest.raises(ValueError, match='grid.*beta.*trained with'):
            load(saved)


def test_weights_of_more_points_are_left_out_in_words(monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'handle',
        lambda r: r.levelname == 'WARNING' and lines.append(r.getMessage()))
    saved = TwoHotLocalizationLoss(**RPN).state_dict()
    load_state_dict(TwoHotLocalizationLoss(**RCNN), saved)
    assert '11 grid points, this one has 6' in lines[0]


# entropy


def test_the_bias_of_the_entropy_is_that_of_the_loss():
    t = torch.tensor([.05, .1, .2, .25, .3, .4, .5, .8], dtype=torch.double)
    q = two_point_minimum(t, 0.5)
    torch.testing.assert_close(
        q,
        torch.tensor([.017, .040, .101, .141, .188, .317, .5, .899]).double(),
        rtol=0,
        atol=6e-4)
    torch.testing.assert_close(two_point_minimum(t, 0.0), t)
    loss = double_loss(alpha=1, n=1, beta=None, one_sided=True)
    logits = torch.stack((1 - q, q), -1).log().requires_grad_()
    loss(logits, t, reduction_override='sum').backward()
    assert logits.grad.abs().max() < 1e-9


def test_matching_entropies_has_no_bias():
    loss = double_loss(
        alpha=1, n=1, beta=None, one_sided=True, um_mode='match')
    t = torch.linspace(0.05, 0.95, 10, dtype=torch.double)
    q = torch.linspace(0.001, 0.999, 999, dtype=torch.double)
    logits = torch.stack((1 - q, q), -1).log()
    for target in t:
        values = loss(
            logits, target.expand(999), reduction_override='none').flatten()
        assert q[values.argmin()].item() == pytest.approx(
            target.item(), abs=6e-4)


@pytest.mark.parametrize('lambda_um', [-0.1, 1.0])
def test_the_bias_is_known_below_1(lambda_um):
    with pytest.raises(ValueError, match='lambda_um'):
        two_point_minimum(torch.tensor([0.5]), lambda_um)


def test_a_large_lambda_is_remarked(monkeypatch):
    lines = []
    monkeypatch.setattr(
        MMLogger.get_current_instance(), 'handle',
        lambda r: r.levelname == 'WARNING' and lines.append(r.getMessage()))
    TwoHotLocalizationLoss(lambda_um=0.99)
    TwoHotLocalizationLoss(lambda_um=1.0, um_mode='match')
    assert not lines
    TwoHotLocalizationLoss(lambda_um=1.0)
    assert 'no minimum' in lines[0]


# perturbation


def two_levels():
    generator = torch.Generator().manual_seed(0)
    levels = [
        torch.randn(2, 3, s, s, generator=generator, dtype=torch.double)
        for s in (4, 2)
    ]
    return [level.requires_grad_() for level in levels]


def doubt_of(levels):
    weight = torch.linspace(-1, 1, 18, dtype=torch.double).view(6, 3)
    return sum(
        entropy(torch.einsum('nchw,kc->nhwk', x, weight)).sum()
        for x in levels)


def test_perturbations_have_the_length_rho_and_no_gradient():
    levels = two_levels()
    before = doubt_of(levels)
    eps = perturbations(before, levels, rho=0.01)
    assert not any(e.requires_grad for e in eps)
    for e in eps:
        assert e.norm().item() == pytest.approx(0.01)
    assert doubt_of([x + e for x, e in zip(levels, eps)]) > before
    # the graph is still there
    before.backward()


def test_a_level_without_influence_is_left_alone():
    levels = two_levels()
    eps = perturbations(doubt_of(levels[:1]), levels)
    assert eps[0].any() and not eps[1].any()
    eps = perturbations(doubt_of(levels) * 0, levels)
    assert not eps[0].any() and eps[0].isfinite().all()


@pytest.mark.parametrize('ugs, word', [(dict(gamma=-0.1), 'gamma'),
                                       (dict(rho=0.0), 'rho'),
                                       (dict(eps=0.1), 'eps')])
def test_wrong_options_of_the_perturbation_are_named(ugs, word):
    with pytest.raises(ValueError, match=word):
        check_ugs(ugs)


def test_options_of_the_perturbation_are_a_dict():
    with pytest.raises(TypeError, match='ugs must be a dict.*True'):
        check_ugs(True)


def test_options_of_the_perturbation_have_defaults():
    assert check_ugs(None) is None
    assert check_ugs(dict(rho=1.0)) == dict(gamma=0.1, rho=1.0)


# one dimension


def test_small_boxes_get_gradients_like_large_ones():
    every = ways()
    pixels = train(every['L1, network tells pixels'], num_steps=5)
    two_hot_ = train(every['two-hot, lambda 0'], num_steps=100)
    assert pixels['mean'] == pytest.approx(8, rel=1e-3)
    assert 0.8 < two_hot_['first'] < 1.25 and 0.5 < two_hot_['mean'] < 2
    assert two_hot_['last'] < 0.8


def test_cross_entropy_is_least_where_the_label_is_met():
    _, label = two_hot(torch.tensor([0.3]), make_grid(**RPN))
    met = cross_entropy(label.clamp(min=1e-30).log(), label)
    assert met <= cross_entropy(torch.randn(100, 11), label).min()
