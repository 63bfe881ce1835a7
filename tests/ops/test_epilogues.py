from itertools import product

import pytest
import torch
from signs import LAYOUTS, count, in_layout, prepack, randn, runnable_isas

from mmcompress import ops

ISAS = runnable_isas()
INFINITY = float('inf')


def channelwise(vector):
    return vector.view(1, -1, 1, 1)


def bits_of(y, threshold, flip=None):
    """The definition of the next layer's bits, packed."""
    t = channelwise(threshold)
    passes = y > t
    if flip is not None:
        passes = torch.where(channelwise(flip), y < t, passes)
    return ops.binary_pack(passes.float())


def epilogue(k, scale, shift, residual, pre, slope, post):
    """The definition of ``y``: eager PyTorch rounds after each operation."""
    y = channelwise(scale) * k.float()
    y = y + channelwise(shift)
    if residual is not None:
        y = y + residual
    if pre is not None:
        y = y + channelwise(pre)
    if slope is not None:
        y = torch.where(y > 0, y, channelwise(slope) * y)
    if post is not None:
        y = y + channelwise(post)
    return y


def assert_same(actual, expected):
    """Equal bit for bit, except that one NaN is as good as another."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    nan = expected.isnan()
    assert torch.equal(actual.isnan(), nan)
    actual, expected = actual[~nan], expected[~nan]
    assert torch.equal(actual.view(torch.int32), expected.view(torch.int32))


@pytest.mark.parametrize('isa', ISAS)
@pytest.mark.parametrize('channels, num, size', [(64, 64, (7, 9)),
                                                 (128, 80, (5, 8)),
                                                 (32, 130, (1, 1)),
                                                 (20, 33, (6, 5)),
                                                 (256, 256, (4, 4))])
def test_every_combination_of_the_epilogue(channels, num, size, isa):
    x, weight = randn(2, channels, *size), randn(num, channels, 3, 3, seed=1)
    k = count(x, weight, padding=1)
    blob, bits = prepack(weight, 1, isa), ops.binary_pack(x)
    scale, shift, threshold = (randn(num, seed=i) for i in (2, 3, 4))
    flip = randn(num, seed=5) > 0
    for chosen in product((False, True), repeat=6):
        with_y, with_flip, *with_rest = chosen
        values = [randn(2, num, *size, seed=6).contiguous()]
        values += [randn(num, seed=i) for i in (7, 8, 9)]
        rest = [v if use else None for v, use in zip(values, with_rest)]
        residual, pre, slope, post = rest
        next_flip = flip if with_flip else None
        y, out = ops.binary_conv2d_fused(
            bits,
            blob,
            scale,
            shift,
            list(weight.shape),
            padding=1,
            residual=residual,
            pre=pre,
            slope=slope,
            post=post,
            next_threshold=threshold,
            next_flip=next_flip,
            bits_only=not with_y)
        expected = epilogue(k, scale, shift, *rest)
        assert torch.equal(out, bits_of(expected, threshold, next_flip))
        if with_y:
            assert_same(y, expected)
            assert y.is_contiguous(memory_format=torch.channels_last)
        else:
            assert y.numel() == 0 and y.dtype == torch.float32


@pytest.mark.parametrize('isa', ISAS)
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels, num, kernel', [(64, 64, 3), (64, 256, 1),
                                                   (70, 40, 3), (130, 65, 1)])
def test_float_in_float_out(channels, num, kernel, layout, isa):
    x = randn(2, channels, 6, 11)
    weight = randn(num, channels, kernel, kernel, seed=1)
    threshold = randn(channels, seed=2)
    flip = randn(channels, seed=3) > 0
    signs = torch.where(
        channelwise(flip), x < channelwise(threshold), x
        > channelwise(threshold)).float() - 0.5
    k = count(signs, weight, padding=kernel // 2)
    residual = randn(*k.shape, seed=4)
    scale, shift = randn(num, seed=5), randn(num, seed=6)
    y, out = ops.binary_conv2d_fused(
        in_layout(x, layout),
        prepack(weight, 1, isa),
        scale,
        shift,
        list(weight.shape),
        padding=kernel // 2,
        threshold=threshold,
        flip=flip,
        residual=in_layout(residual, layout))
    assert_same(y, epilogue(k, scale, shift, residual, None, None, None))
    assert out.numel() == 0 and out.dtype == torch.uint8


@pytest.mark.parametrize('isa', ISAS)
def test_groups_strides_and_minus_one_padding(isa):
    for groups, stride, pad_value in product((1, 2, 4), (1, 2), (0, -1)):
        x = randn(2, 128, 9, 10)
        weight = randn(96, 128 // groups, 3, 3, seed=1)
        conv = dict(
            stride=stride, padding=1, groups=groups, pad_value=pad_value)
        k = count(x, weight, **conv)
        residual = randn(*k.shape, seed=2)
        scale, shift, slope = (randn(96, seed=i) for i in (3, 4, 5))
        y, out = ops.binary_conv2d_fused(
            x,
            prepack(weight, groups, isa),
            scale,
            shift,
            list(weight.shape),
            **conv,
            residual=residual,
            slope=slope,
            next_threshold=shift)
        expected = epilogue(k, scale, shift, residual, None, slope, None)
        assert_same(y, expected)
        assert torch.equal(out, bits_of(expected, shift))


@pytest.mark.parametrize('isa', ISAS)
def test_infinities_nan_and_signed_zeros(isa):
    special = [0.0, -0.0, INFINITY, -INFINITY, float('nan'), 1e-45, 3e38, 1.0]
    scale, shift = torch.tensor(list(product(special, repeat=2))).unbind(1)
    x, weight = randn(1, 64, 5, 6), randn(64, 64, 1, 1, seed=1)
    k = count(x, weight)
    assert (k == 0).any()
    slope = torch.tensor(special).repeat(8)
    threshold = torch.tensor(special).repeat_interleave(8).roll(3)
    flip = torch.arange(64) % 3 == 0
    residual = torch.tensor(special).repeat(240).view(1, 64, 5, 6)
    y, out = ops.binary_conv2d_fused(
        x,
        prepack(weight, 1, isa),
        scale,
        shift, [64, 64, 1, 1],
        residual=residual,
        slope=slope,
        next_threshold=threshold,
        next_flip=flip)
    expected = epilogue(k, scale, shift, residual, None, slope, None)
    assert_same(y, expected)
    assert torch.equal(out, bits_of(expected, threshold, flip))


def every_k(num_products, channels):
    """All integers that a dot product can be, for every channel."""
    k = torch.arange(-num_products, num_products + 1, dtype=torch.int32)
    return k.view(1, 1, 1, -1).expand(1, channels, 1, -1)


@pytest.mark.parametrize('num_products', [1, 9, 27, 576, 4608])
def test_limits_agree_with_the_float_comparison_for_every_k(num_products):
    num = 400
    scale, shift, threshold = (randn(num, seed=i) for i in (1, 2, 3))
    shift = shift * num_products / 2 * scale.abs()
    flip = randn(num, seed=4) > 0
    # ties, as y is a multiple of a quarter
    scale[:100] = (scale[:100] * 4).round() / 4
    shift[:100] = (shift[:100] * 4).round() / 4
    threshold[:100] = (threshold[:100] * 4).round() / 4
    k = every_k(num_products, num)
    y = epilogue(k, scale, shift, None, None, None, None)
    for next_flip in (None, flip):
        limit, turned = ops.integer_limits(scale, shift, threshold, next_flip,
                                           num_products)
        passes = (k >= channelwise(limit)) ^ channelwise(turned)
        assert limit.dtype == torch.int32 and turned.dtype == torch.bool
        assert torch.equal(
            ops.binary_pack(passes.float()), bits_of(y, threshold, next_flip))


def test_limits_of_degenerate_maps():
    special = [
        0.0, -0.0, 1.0, -1.0, INFINITY, -INFINITY,
        float('nan'), 1e-45, -3e38
    ]
    values = torch.tensor(list(product(special, repeat=3)))
    scale, shift, threshold = values.repeat(2, 1).unbind(1)
    flip = torch.arange(len(scale)) < len(values)
    limit, turned = ops.integer_limits(scale.contiguous(), shift.contiguous(),
                                       threshold.contiguous(), flip, 36)
    k = every_k(36, len(scale))
    passes = (k >= channelwise(limit)) ^ channelwise(turned)
    y = epilogue(k, scale, shift, None, None, None, None)
    assert torch.equal(
        ops.binary_pack(passes.float()),
        bits_of(y, threshold.contiguous(), flip))


@pytest.mark.parametrize('isa', ISAS)
@pytest.mark.parametrize('channels, num', [(64, 64), (35, 70), (128, 300),
                                           (33, 32)])
def test_packed_in_packed_out(channels, num, isa):
    x, weight = randn(2, channels, 9, 10), randn(num, channels, 3, 3, seed=1)
    scale, shift, threshold = (randn(num, seed=i) for i in (2, 3, 4))
    flip = randn(num, seed=5) > 0
    limit, turned = ops.integer_limits(scale, shift * 20, threshold, flip,
                                       9 * channels)
    for stride, pad_value, kernel in product((1, 2), (0, -1), (1, 3)):
        part = weight[:, :, :kernel, :kernel].contiguous()
        conv = dict(stride=stride, padding=kernel // 2, pad_value=pad_value)
        out = ops.binary_conv2d_bits(
            ops.binary_pack(x), prepack(part, 1, isa), limit, turned,
            list(part.shape), **conv)
        y = epilogue(
            count(x, part, **conv), scale, shift * 20, None, None, None, None)
        assert torch.equal(out, bits_of(y, threshold, flip))


@pytest.mark.parametrize('isa', ISAS)
@pytest.mark.parametrize('channels', [64, 4096, 8192])
def test_limits_at_the_ends(channels, isa):
    """All, none, and exactly the largest and smallest dot product."""
    n = 9 * channels
    x = torch.ones(1, channels, 3, 3)
    weight = torch.ones(8, channels, 3, 3)
    weight[4:] = -1
    limit = torch.tensor([n, n + 1, -n, n - 1] * 2, dtype=torch.int32)
    for turned in (False, True):
        out = ops.binary_conv2d_bits(
            ops.binary_pack(x), prepack(weight, 1, isa), limit,
            torch.full((8, ), turned), [8, channels, 3, 3])
        expected = 0b01001101 ^ (0xff if turned else 0)
        assert out.flatten().tolist() == [expected] + [0] * 7


@pytest.mark.parametrize('isa', ISAS)
def test_limits_beyond_every_dot_product(isa):
    x, weight = randn(1, 64, 4, 4), randn(4, 64, 3, 3, seed=1)
    ends = torch.iinfo(torch.int32)
    limit = torch.tensor([ends.min, ends.max] * 2, dtype=torch.int32)
    flip = torch.tensor([False, False, True, True])
    out = ops.binary_conv2d_bits(
        ops.binary_pack(x), prepack(weight, 1, isa), limit, flip,
        [4, 64, 3, 3])
    assert out[..., 0].unique().tolist() == [0b1001]


@pytest.mark.parametrize('isa', ISAS)
def test_no_images(isa):
    vector = randn(70)
    y, out = ops.binary_conv2d_fused(
        torch.zeros(0, 64, 5, 6),
        prepack(randn(70, 64, 3, 3), 1, isa),
        vector,
        vector, [70, 64, 3, 3],
        next_threshold=vector)
    assert y.shape == (0, 70, 3, 4) and out.shape == (0, 3, 4, 16)
