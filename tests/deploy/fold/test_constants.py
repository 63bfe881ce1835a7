import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d
from mmcompress.deploy.fold import fold_affine, fold_threshold


def norm(channels, **kwargs):
    bn = nn.BatchNorm2d(channels, **kwargs).eval()
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
