import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d
from mmcompress.binary.layers import RSign
from mmcompress.deploy.fold import fold_affine, fold_threshold
from mmcompress.deploy.fold.constants import input_bits, through_sign
from mmcompress.lowbit import InferenceRule


def norm(channels, **kwargs):
    # as large as the variances, so that it counts
    bn = nn.BatchNorm2d(channels, **{'eps': 0.5, **kwargs}).eval()
    if bn.affine:
        nn.init.normal_(bn.weight)
        nn.init.normal_(bn.bias)
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.1, 2)
    return bn


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('affine', [True, False])
def test_scale_and_shift_are_those_of_layer_and_norm(bias, affine):
    torch.manual_seed(0)
    conv = IDaDetConv2d(4, 6, 3, padding=1, bias=bias).eval()
    bn, x = norm(6, affine=affine), torch.randn(2, 4, 5, 5)
    rule = conv.inference_rule()
    scale, shift = fold_affine(rule, bn)
    k = F.conv2d(torch.where(x > 0, 1.0, -1.0), rule.codes, padding=1)
    assert scale.dtype == shift.dtype == torch.float32
    torch.testing.assert_close(
        scale.view(-1, 1, 1) * k + shift.view(-1, 1, 1), bn(conv(x)))


@pytest.mark.parametrize('bias', [True, False])
def test_without_a_norm_they_are_the_layers(bias):
    rule = IDaDetConv2d(4, 6, 3, bias=bias).inference_rule()
    scale, shift = fold_affine(rule, None)
    assert torch.equal(scale, rule.scale)
    assert torch.equal(shift, rule.bias if bias else torch.zeros(6))


def test_a_threshold_decides_as_the_norm():
    torch.manual_seed(0)
    bn, x = norm(64), torch.randn(50, 64, 3, 3)
    assert (bn.weight < 0).any() and (bn.weight > 0).any()
    threshold, flip = fold_threshold(bn)
    t, f = threshold.view(-1, 1, 1), flip.view(-1, 1, 1)
    bits = torch.where(f, x < t, x > t)
    # an element at the threshold may round either way
    clear = (x - t).abs() > 1e-5
    assert clear.float().mean() > 0.999
    assert torch.equal(bits[clear], (bn(x) > 0)[clear])


def test_a_gain_of_zero_is_a_constant_bit():
    bn = norm(3)
    bn.weight.data.zero_()
    bn.bias.data = torch.tensor([1.0, 0, -1])
    threshold, flip = fold_threshold(bn)
    assert not flip.any()
    for x in (-3e38, 0, 3e38):
        assert (x > threshold).tolist() == [True, False, False]


def test_without_gain_and_bias_the_threshold_is_the_mean():
    bn = norm(3, affine=False)
    threshold, flip = fold_threshold(bn)
    assert torch.equal(threshold, bn.running_mean)
    assert not flip.any()


def test_statistics_are_needed():
    bn = nn.BatchNorm2d(3, track_running_stats=False)
    with pytest.raises(ValueError, match='running statistics'):
        fold_threshold(bn)


def test_two_norms_in_front_of_a_sign_decide_as_one_comparison():
    torch.manual_seed(0)
    first, second = norm(64), norm(64)
    rule = InferenceRule(
        codes=torch.ones(1, 64, 1, 1),
        scale=torch.ones(1),
        threshold=torch.full((64, ), 0.25))
    threshold, flip = input_bits([first, second], rule)
    signs = (first.weight < 0).int() + (second.weight < 0)
    assert flip.equal(signs == 1) and (signs == 2).any()
    x = torch.randn(50, 64, 3, 3)
    t, f = threshold.view(-1, 1, 1), flip.view(-1, 1, 1)
    clear = (x - t).abs() > 1e-4
    assert torch.equal(
        torch.where(f, x < t, x > t)[clear], (second(first(x)) > 0.25)[clear])


@pytest.mark.parametrize('t', [-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize('flip', [None, False, True])
def test_a_threshold_in_front_of_a_sign_gives_the_bits_behind_it(t, flip):
    y = torch.tensor([-2.0, -0.5, 0.5, 2.0])
    threshold = torch.tensor([t])
    moved = through_sign(threshold,
                         None if flip is None else torch.tensor([flip]))
    if flip:
        assert (y.sign() < threshold).equal(y < moved)
    else:
        assert (y.sign() > threshold).equal(y > moved)


def test_shifts_and_signs_in_front_of_a_norm():
    torch.manual_seed(0)
    sign, bn = RSign(32), norm(32)
    sign.bias.data.normal_()
    rule = InferenceRule(
        codes=torch.ones(1, 32, 1, 1),
        scale=torch.ones(1),
        threshold=torch.zeros(32))
    threshold, flip = input_bits([sign, bn], rule)
    assert flip.any() and threshold.isfinite().any()
    x = torch.randn(20, 32, 3, 3)
    t, f = threshold.view(-1, 1, 1), flip.view(-1, 1, 1)
    assert torch.equal(torch.where(f, x < t, x > t), bn(sign(x)) > 0)
