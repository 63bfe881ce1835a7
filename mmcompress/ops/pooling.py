"""Max pooling of codes."""
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .arguments import check_geometry, check_pair, require

_LAST = torch.channels_last


def _check(x: Tensor, kernel_size: list[int], stride: list[int],
           padding: list[int]) -> tuple[int, int]:
    """Height and width of the result."""
    require(x.dtype == torch.uint8, f'x must be uint8, it is {x.dtype}')
    require(x.dim() == 4,
            f'x must be (N, C, H, W), it has shape {tuple(x.shape)}')
    check_pair('kernel_size', kernel_size, 1)
    check_pair('padding', padding, 0)
    require(
        all(2 * p <= k for p, k in zip(padding, kernel_size)),
        f'padding {list(padding)} must be at most half of the kernel '
        f'{list(kernel_size)}')
    return check_geometry(x.shape[2:], [1, 1, *kernel_size], stride, padding,
                          [1, 1])


def max_pool_codes_reference(x: Tensor, kernel_size: list[int],
                             stride: list[int], padding: list[int]) -> Tensor:
    """Definition of :func:`max_pool_codes` in plain PyTorch.

    Takes maxima of shifted images, which is four times as fast as pooling
    floats.
    """
    y = fake_max_pool_codes(x, kernel_size, stride, padding)
    top, left = padding
    # padding never wins: no code is less than 0
    x = F.pad(x, (left, left, top, top))
    for dim, size, step in zip((3, 2), reversed(kernel_size),
                               reversed(stride)):
        last = x.shape[dim] - size
        slices = (x.narrow(dim, i, last + 1) for i in range(size))
        x = reduce(torch.maximum, (_every(s, dim, step) for s in slices))
    return y.copy_(x)


def _every(x: Tensor, dim: int, step: int) -> Tensor:
    return x[..., ::step] if dim == 3 else x[..., ::step, :]


def fake_max_pool_codes(x: Tensor, kernel_size: list[int], stride: list[int],
                        padding: list[int]) -> Tensor:
    """Shape of :func:`max_pool_codes`."""
    out = _check(x, kernel_size, stride, padding)
    is_last = x.is_contiguous(memory_format=_LAST) and not x.is_contiguous()
    return torch.empty(
        (*x.shape[:2], *out),
        dtype=torch.uint8,
        device=x.device,
        memory_format=_LAST if is_last else torch.contiguous_format)


def max_pool_codes(x: Tensor, kernel_size: list[int], stride: list[int],
                   padding: list[int]) -> Tensor:
    """:func:`torch.nn.functional.max_pool2d` of unsigned codes.

    PyTorch's refuses channels-last images of 8 bits whose sizes multiply to
    more than the dtype holds.

    Args:
        x (Tensor): uint8, shape (N, C, H, W), any strides; channels-last ones
            are the fastest.
        kernel_size, stride, padding (list[int]): Two numbers each.

    Returns:
        Tensor: uint8, shape (N, C, OH, OW), in the memory format of ``x``.

    Raises:
        ValueError: If a window may lie outside of the image, or another
            argument is none that is allowed.
    """
    _check(x, kernel_size, stride, padding)
    return library.operators.max_pool_codes(x, kernel_size, stride, padding)


library.register(
    'max_pool_codes', '(Tensor x, int[2] kernel_size, int[2] stride, '
    'int[2] padding) -> Tensor', max_pool_codes_reference, fake_max_pool_codes)
