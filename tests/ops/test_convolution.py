from itertools import product

import pytest
import torch
from signs import count, prepack, randn, runnable_isas

from mmcompress import ops

ISAS = runnable_isas()


def smallest_image(kernel, padding, dilation):
    return max(1, dilation * (kernel - 1) + 1 - 2 * padding)


def assert_counts(x, weight, **conv):
    """Every path gives the integers of the definition."""
    expected = count(x, weight, **conv)
    bits = ops.binary_pack(x)
    groups = conv.get('groups', 1)
    for isa in ISAS:
        k = ops.binary_conv2d(bits, prepack(weight, groups, isa),
                              list(weight.shape), **conv)
        assert k.dtype == torch.int32
        assert k.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(k, expected), (isa, tuple(x.shape),
                                          tuple(weight.shape), conv)


@pytest.mark.parametrize('kernel', [1, 3, 5, 7])
@pytest.mark.parametrize('channels', [32, 64, 96, 128, 512])
def test_counts_are_exact(channels, kernel):
    weight = randn(80, channels, kernel, kernel, seed=1)
    # every combination of these, on images that change from one to the next
    for i, (stride, padding, dilation, pad_value, num) in enumerate(
            product((1, 2), range(4), (1, 2), (0, -1), (32, 64, 80))):
        least = smallest_image(kernel, padding, dilation)
        height, width = least + i % 2, least + i % 3 * 2
        x = randn(1 + 2 * (i % 5 == 0), channels, height, width, seed=i)
        assert_counts(
            x,
            weight[:num],
            stride=stride,
            padding=padding,
            dilation=dilation,
            pad_value=pad_value)


@pytest.mark.parametrize('size', [(14, 14), (7, 9), (25, 38), (1, 50)])
@pytest.mark.parametrize('channels, num', [(64, 64), (128, 256), (256, 80)])
def test_counts_of_whole_layers(channels, num, size):
    x, weight = randn(2, channels, *size), randn(num, channels, 3, 3, seed=1)
    assert_counts(x, weight, padding=1)
    assert_counts(x, weight, padding=1, stride=2)
    assert_counts(x, weight[:, :, 1:2, 1:2])


@pytest.mark.parametrize('channels', [1, 2, 3, 5, 30, 33, 66, 100, 129])
@pytest.mark.parametrize('num', [1, 7, 33, 65])
def test_any_number_of_channels(channels, num):
    x, weight = randn(2, channels, 5, 6), randn(num, channels, 3, 3, seed=1)
    for pad_value in (0, -1):
        assert_counts(x, weight, padding=1, pad_value=pad_value)


@pytest.mark.parametrize('groups, each, num', [(2, 32, 64), (2, 35, 6),
                                               (4, 64, 256), (3, 1, 3),
                                               (16, 1, 32), (8, 12, 8)])
def test_groups_and_depthwise(groups, each, num):
    x, weight = randn(2, groups * each, 6, 7), randn(num, each, 3, 3, seed=1)
    for pad_value, stride in product((0, -1), (1, 2)):
        assert_counts(
            x,
            weight,
            padding=1,
            pad_value=pad_value,
            groups=groups,
            stride=stride)


@pytest.mark.parametrize('conv', [
    dict(stride=(2, 1), padding=(0, 2)),
    dict(stride=(1, 3), padding=(1, 0), dilation=(2, 1)),
    dict(padding=(5, 4), pad_value=0),
    dict(padding=(5, 4), pad_value=-1),
])
@pytest.mark.parametrize('kernel', [(1, 3), (3, 1), (2, 4)])
@pytest.mark.parametrize('channels', [64, 20])
def test_what_is_not_square(channels, kernel, conv):
    x, weight = randn(2, channels, 7, 9), randn(40, channels, *kernel, seed=1)
    assert_counts(x, weight, **conv)


@pytest.mark.parametrize('channels, kernel', [(64, 3), (256, 3), (512, 7),
                                              (4096, 1), (4096, 3), (8192, 3)])
def test_all_equal_and_all_opposite(channels, kernel):
    """The extremes of every accumulator, up to more than 16 bits."""
    x = torch.ones(1, channels, kernel, kernel + 6)
    weight = torch.ones(65, channels, kernel, kernel)
    weight[::2] = -1
    for sign in (1, -1):
        assert_counts(sign * x, weight)
        assert_counts(sign * x, weight, padding=kernel // 2)
        assert_counts(sign * x, weight, padding=kernel // 2, pad_value=-1)


def test_padding_alone_counts_nothing():
    x, weight = randn(1, 64, 1, 1), randn(64, 64, 3, 3, seed=1)
    conv = dict(padding=4)
    k = ops.binary_conv2d(
        ops.binary_pack(x), prepack(weight), list(weight.shape), **conv)
    assert not k[..., 0].any()
    assert_counts(x, weight, **conv)


def test_no_images():
    bits = torch.zeros(0, 5, 6, 8, dtype=torch.uint8)
    weight = randn(70, 64, 3, 3)
    for isa in ISAS:
        k = ops.binary_conv2d(bits, prepack(weight, 1, isa), [70, 64, 3, 3])
        assert k.shape == (0, 70, 3, 4)


def test_a_slice_of_a_larger_tensor():
    weight = randn(70, 70, 3, 3)
    bits = ops.binary_pack(randn(3, 70, 9, 12, seed=1))
    for part in (bits[1:], bits[:, 1::2], bits[:, :,
                                               2:7], bits.transpose(1, 2)):
        for isa in ISAS:
            blob = prepack(weight, 1, isa)
            assert torch.equal(
                ops.binary_conv2d(part, blob, [70, 70, 3, 3], 1, 1),
                ops.binary_conv2d(part.clone(), blob, [70, 70, 3, 3], 1, 1))


@pytest.mark.parametrize('isa', ISAS)
def test_threads_change_nothing(isa):
    x, weight = randn(2, 64, 56, 57), randn(130, 64, 3, 3, seed=1)
    blob, before = prepack(weight, 1, isa), torch.get_num_threads()
    scale, threshold = randn(130, seed=2), randn(130, seed=3)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            bits = ops.binary_pack(x)
            y, out = ops.binary_conv2d_fused(
                bits,
                blob,
                scale,
                scale, [130, 64, 3, 3],
                padding=1,
                next_threshold=threshold)
            k = ops.binary_conv2d(bits, blob, [130, 64, 3, 3], 1, 1)
            results.append((bits, y, out, k))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
