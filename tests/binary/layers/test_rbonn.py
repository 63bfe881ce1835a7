import pytest
import torch
from golden import assert_golden, golden

import mmcompress.compat  # noqa: F401
from mmcompress.binary import RBONNConv2d, ReBNNConv2d
from mmcompress.binary.layers.rbonn import density_indicator


@golden('rbonn')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def indicator(alpha, density=None, **kwargs):
    scale = torch.tensor(alpha).view(-1, 1, 1, 1)
    weight = torch.tensor(density or alpha).view(-1, 1, 1, 1)
    result = density_indicator(weight, scale, **kwargs)
    assert result.shape == scale.shape
    return result.flatten().nonzero().flatten().tolist()


def test_the_rule_of_the_paper_takes_weak_filters_of_dense_scales():
    alpha = [0.1, -0.9, 0.3, 0.8, -0.5]
    density = [0.1, 0.2, 0.3, 0.4, 0.5]
    # T = 3: dense scales are 1 and 3, weak filters 0, 1 and 2
    assert indicator(alpha, density) == [1]
    assert indicator(alpha, density, tau=0.8) == [1]
    assert indicator(alpha, density[::-1]) == [3]
    # signs of weights don't matter
    assert indicator(alpha, [-d for d in density]) == [1]


@pytest.mark.parametrize('tau', [0.0, 1.0])
def test_nothing_is_corrected_at_the_ends_of_tau(tau):
    assert indicator([1.0, 2, 3, 4], [4.0, 3, 2, 1], tau=tau) == []


def test_the_official_rule_takes_a_permutation_for_ranks():
    alpha = [2.38, 0.042, 0.97, 0.50, 0.060, 0.53]
    assert indicator(alpha, variant='official') == [0, 5]


@pytest.mark.parametrize('channels, number', [(10, 4), (13, 5), (64, 25)])
def test_the_official_rule_takes_the_integer_part_in_double(channels, number):
    alpha = torch.rand(channels).tolist()
    assert len(indicator(alpha, variant='official')) == number


def conv_with_state(**kwargs):
    torch.manual_seed(0)
    conv = RBONNConv2d(4, 10, 3, **kwargs)
    conv.prev_grad.normal_()
    return conv


def test_the_correction_subtracts_the_previous_gradient():
    conv = conv_with_state()
    mask = density_indicator(conv.weight, conv.scale_factor)
    assert 0 < mask.sum() < 10
    expected = conv.weight - 0.2 * conv.prev_grad * mask
    assert torch.equal(conv.corrected_weight(), expected)


def test_evaluation_knows_no_correction():
    conv, x = conv_with_state().eval(), torch.randn(2, 4, 5, 5)
    before = conv(x)
    conv.prev_grad.normal_()
    conv.u.data.normal_()
    assert torch.equal(conv(x), before)
    assert not torch.equal(conv.train()(x), before)


def test_u_zero_is_the_first_step():
    conv, x = conv_with_state(), torch.randn(2, 4, 5, 5)
    conv.u.data.zero_()
    corrected = conv(x)
    conv.prev_grad.zero_()
    assert torch.equal(conv(x), corrected)


def test_u_learns_where_filters_are_corrected_only():
    conv = conv_with_state()
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    mask = density_indicator(conv.weight, conv.scale_factor)
    assert torch.equal(conv.u.grad != 0, mask)


def test_the_gradient_of_u_is_that_of_the_corrected_weight():
    conv = conv_with_state().double()
    conv(torch.randn(2, 4, 5, 5)).square().sum().backward()
    with torch.no_grad():
        correction = conv.correction()
        conv.before_step()
    # all of it, the reconstruction included
    expected = -(conv.weight.grad * correction).sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(conv.u.grad, expected)
    assert torch.equal(conv.prev_grad, conv.weight.grad)


def test_without_correction_it_is_rebnn_with_a_constant_gamma():
    torch.manual_seed(0)
    # tau = 1: nothing is corrected
    rbonn = RBONNConv2d(4, 10, 3, tau=1.0, recon_weight=1e-2)
    rebnn = ReBNNConv2d(4, 10, 3, variant='official', gamma_clamp=(0, 1e-2))
    rbonn.prev_grad.normal_()
    rebnn.load_state_dict({
        'weight': rbonn.weight,
        'bias': rbonn.bias,
        'scaling_factor': rbonn.scale_factor
    })
    x = torch.randn(2, 4, 5, 5)
    for conv in (rbonn, rebnn):
        optimizer = torch.optim.Adam(conv.parameters(), lr=1e-2)
        for _ in range(3):
            optimizer.zero_grad()
            conv(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(rbonn.weight, rebnn.weight)
    assert torch.equal(rbonn.scale_factor, rebnn.scaling_factor)


@pytest.mark.parametrize('wrong', [
    dict(variant='paper'),
    dict(bin=0),
    dict(tau=1.5),
    dict(tau=-0.1),
])
def test_rejects_by_name_what_it_cannot_do(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        RBONNConv2d(4, 6, 3, **wrong)
