"""Codes pooled: the kernel, and the reference on odd layouts."""
import pytest
import torch
import torch.nn.functional as F

from mmcompress import ops

WINDOWS = [([3, 3], [2, 2], [1, 1]), ([2, 2], [2, 2], [0, 0]),
           ([5, 5], [1, 1], [2, 2]), ([3, 1], [1, 3], [1, 0])]
VIEWS = {
    'channels_last': lambda x: x.contiguous(memory_format=torch.channels_last),
    'contiguous': lambda x: x,
    'transposed': lambda x: x.transpose(2, 3),
    'cut': lambda x: x[:, 1:, ::2, 3:]
}


def draw() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = 2, 9, 41, 30
    return torch.randint(0, 256, shape, generator=generator).byte()


@pytest.mark.parametrize('window', WINDOWS, ids=str)
@pytest.mark.parametrize('view', VIEWS)
def test_the_largest_of_each_window(window, view):
    x = VIEWS[view](draw())
    y = ops.max_pool_codes(x, *window)
    assert torch.equal(y.float(), F.max_pool2d(x.float(), *window))
    assert torch.equal(y, ops.reference.max_pool_codes(x, *window))
    is_last = view == 'channels_last'
    assert y.is_contiguous(memory_format=torch.channels_last
                           if is_last else torch.contiguous_format)


def test_no_image_has_no_windows():
    y = ops.max_pool_codes(draw()[:0], [3, 3], [2, 2], [1, 1])
    assert y.shape == (0, 9, 21, 15)


@pytest.mark.parametrize('message, x, window', [
    ('x must be uint8', draw().float(), WINDOWS[0]),
    ('N, C, H, W', draw()[0], WINDOWS[0]),
    ('kernel_size', draw(), ([0, 3], [1, 1], [0, 0])),
    ('stride', draw(), ([3, 3], [0, 1], [0, 0])),
    ('stride', draw(), ([3, 3], [2**62, 1], [0, 0])),
    ('padding', draw(), ([3, 3], [1, 1], [-1, 0])),
    ('at most half of the kernel', draw(), ([3, 3], [1, 1], [2, 0])),
    ('does not fit', draw(), ([50, 3], [1, 1], [0, 0])),
], ids=range(8))  # yapf: disable
def test_errors_name_the_argument(message, x, window):
    with pytest.raises(ValueError, match=message):
        ops.max_pool_codes(x, *window)
    with pytest.raises((ValueError, RuntimeError), match=message):
        torch.ops.mmcompress.max_pool_codes(x, *window)
