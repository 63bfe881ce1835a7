import numpy as np
import pytest
import torch
from signs import LAYOUTS, in_layout, randn, sign

from mmcompress import ops

CHANNELS = (1, 3, 4, 8, 31, 32, 33, 63, 64, 65, 70, 128, 512)


def numpy_bits(values):
    """(N, C, H, W) booleans packed by numpy."""
    bits = np.packbits(
        values.permute(0, 2, 3, 1).numpy(), axis=-1, bitorder='little')
    rest = ops.packed_bytes(values.shape[1]) - bits.shape[-1]
    return torch.from_numpy(np.pad(bits, [(0, 0)] * 3 + [(0, rest)]))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', CHANNELS)
def test_packs_as_numpy_does(channels, layout):
    for size in ((1, 1), (3, 5), (1, 9), (7, 8), (2, 33)):
        x = randn(2, channels, *size)
        assert torch.equal(
            ops.binary_pack(in_layout(x, layout)), numpy_bits(x > 0))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('channels', CHANNELS)
def test_compares_with_each_channels_threshold(channels, layout):
    # few different values: many ties
    x = randn(2, channels, 3, 11).mul(2).round()
    threshold = randn(channels, seed=1).mul(2).round()
    flip = randn(channels, seed=2) > 0
    t, f = (v.view(1, -1, 1, 1) for v in (threshold, flip))
    x_in = in_layout(x, layout)
    assert torch.equal(ops.binary_pack(x_in, threshold), numpy_bits(x > t))
    assert torch.equal(
        ops.binary_pack(x_in, threshold, flip),
        numpy_bits(torch.where(f, x < t, x > t)))
    assert torch.equal(
        ops.binary_pack(x_in, None, flip),
        numpy_bits(torch.where(f, x < 0, x > 0)))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_zero_negative_zero_and_nan_are_no_ones(layout):
    values = torch.tensor([
        0.0, -0.0,
        float('nan'), 1e-45, -1e-45,
        float('inf'), -float('inf'), 1.0
    ])
    x = in_layout(values.view(1, -1, 1, 1).repeat(1, 8, 3, 3), layout)
    bits = ops.binary_pack(x)
    assert bits.unique().tolist() == [0b10101000]
    flip = torch.ones(64, dtype=torch.bool)
    bits = ops.binary_pack(x, None, flip)
    assert bits.unique().tolist() == [0b01010000]
    nowhere = torch.full((64, ), float('nan'))
    assert not ops.binary_pack(x, nowhere).any()
    assert not ops.binary_pack(x, nowhere, flip).any()


@pytest.mark.parametrize('channels', CHANNELS)
def test_unpacks_to_signs_in_channels_last(channels):
    x = randn(2, channels, 3, 5)
    signs = ops.binary_unpack(ops.binary_pack(x), channels)
    assert torch.equal(signs, sign(x))
    assert signs.is_contiguous(memory_format=torch.channels_last)


def test_unpacks_a_slice_of_a_larger_tensor():
    bits = ops.binary_pack(randn(2, 70, 6, 5))
    signs = ops.binary_unpack(bits[:, 1::2, 1:4], 70)
    assert torch.equal(signs, ops.binary_unpack(bits, 70)[:, :, 1::2, 1:4])


def test_no_images():
    assert ops.binary_pack(torch.zeros(0, 70, 3, 4)).shape == (0, 3, 4, 16)
    empty = torch.zeros(0, 3, 4, 16, dtype=torch.uint8)
    assert ops.binary_unpack(empty, 70).shape == (0, 70, 3, 4)
    assert ops.binary_pack(torch.zeros(2, 70, 0, 4)).shape == (2, 0, 4, 16)
