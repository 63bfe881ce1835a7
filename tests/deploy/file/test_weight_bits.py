import numpy as np
import pytest
import torch

from mmcompress.deploy.file.weight_bits import (num_bytes, store_signs,
                                                weight_rows)
from mmcompress.ops import binary_pack

SHAPES = [(4, 64, 3, 3), (3, 128, 1, 1), (5, 3, 3, 3), (2, 30, 1, 5),
          (7, 65, 3, 1), (1, 1, 1, 1)]


def signs_of(shape):
    torch.manual_seed(sum(shape))
    return torch.where(torch.rand(shape) < 0.5, -1.0, 1.0)


@pytest.mark.parametrize('shape', SHAPES)
def test_a_weight_takes_one_bit(shape):
    stored = store_signs(signs_of(shape))
    assert stored.dtype == torch.uint8
    assert stored.numel() == num_bytes(shape) == -(-np.prod(shape) // 8)


@pytest.mark.parametrize('shape', SHAPES)
def test_bits_are_numpys(shape):
    signs = signs_of(shape)
    expected = np.packbits(
        signs.permute(0, 2, 3, 1).flatten().numpy() > 0, bitorder='little')
    assert np.array_equal(store_signs(signs).numpy(), expected)


@pytest.mark.parametrize('shape', SHAPES)
def test_rows_are_what_the_kernels_take(shape):
    signs = signs_of(shape)
    assert weight_rows(store_signs(signs),
                       list(shape)).equal(binary_pack(signs))


def test_whole_words_of_channels_are_not_copied():
    stored = store_signs(signs_of((4, 64, 3, 3)))
    rows = weight_rows(stored, [4, 64, 3, 3])
    assert rows.data_ptr() == stored.data_ptr()
