"""LayerNorm and GELU that hand on codes: one pass over memory each.

PyTorch's own are not the same to the last bit on every machine, and a bit may
decide to which side a code falls. These are sequences of float32 operations,
each rounded on its own in an order that is written down here, so that all
kernels, and the definition on any device, give the same codes.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .arguments import check_tensor, require
from .quantize import check_grid, check_scale, round_codes

# sums that grow side by side
_LANES = 64

# erf(t) = t * P(t * t) / Q(t * t) for |t| <= 4, where it is 1 in float32;
# coefficients from the lowest power on, all of them float32 numbers. They
# minimise the largest relative error, 2.5e-8 before rounding.
_NUMERATOR = (1.1283791065216064, 0.19352151453495026, 0.053098611533641815,
              0.0038823450449854136, 0.0002845449198503047,
              1.9869689822371583e-06)
_DENOMINATOR = (1.0, 0.5048365592956543, 0.11534025520086288,
                0.015205228701233864, 0.0011853331234306097,
                3.742104672710411e-05)
_ERF_END = 4.0
_SQRT_HALF = 0.7071067690849304


def _check(x: Tensor, scale: Tensor, grid: list[int]) -> None:
    require(x.dtype == torch.float32, f'x must be float32, it is {x.dtype}')
    check_scale('scale', scale, x)
    check_grid('grid', grid)


def _codes(y: Tensor, scale: Tensor, grid: list[int]) -> Tensor:
    # a scalar would become a vector
    return round_codes(y / scale, grid).view(y.shape).contiguous()


def _sum(x: Tensor) -> Tensor:
    """Sum over the last dimension: 64 sums, which are then halved."""
    blocks = F.pad(x, (0, -x.shape[-1] % _LANES)).unflatten(-1, (-1, _LANES))
    sums = blocks[..., 0, :]
    for i in range(1, blocks.shape[-2]):
        sums = sums + blocks[..., i, :]
    while sums.shape[-1] > 1:
        first, second = sums.chunk(2, -1)
        sums = first + second
    return sums


def layer_norm_codes_reference(x: Tensor, weight: Tensor, bias: Tensor,
                               scale: Tensor, eps: float,
                               grid: list[int]) -> Tensor:
    """Definition of :func:`layer_norm_codes` in plain PyTorch."""
    fake_layer_norm_codes(x, weight, bias, scale, eps, grid)
    channels = x.shape[-1]
    y = x - _sum(x) / channels
    variance = _sum(y * y) / channels
    # one rounding per operation
    y = y * (1 / (variance + eps).sqrt())
    y = y * weight
    return _codes(y + bias, scale, grid)


def fake_layer_norm_codes(x: Tensor, weight: Tensor, bias: Tensor,
                          scale: Tensor, eps: float,
                          grid: list[int]) -> Tensor:
    """Shape of :func:`layer_norm_codes`."""
    _check(x, scale, grid)
    require(x.dim() > 0 and x.shape[-1] > 0,
            f'x must have features, it has shape {tuple(x.shape)}')
    for name, vector in (('weight', weight), ('bias', bias)):
        check_tensor(name, vector, torch.float32, x, (x.shape[-1], ))
    require(0 <= eps < math.inf,
            f'eps must be a number from 0 on, it is {eps}')
    return torch.empty(x.shape, dtype=torch.uint8, device=x.device)


def gelu_codes_reference(x: Tensor, scale: Tensor, grid: list[int]) -> Tensor:
    """Definition of :func:`gelu_codes` in plain PyTorch."""
    _check(x, scale, grid)
    t = (x * _SQRT_HALF).clamp(-_ERF_END, _ERF_END)
    square = t * t

    def polynomial(coefficients: tuple[float, ...]) -> Tensor:
        value = square * coefficients[-1]
        for coefficient in coefficients[-2:0:-1]:
            value = (value + coefficient) * square
        return value + coefficients[0]

    erf = t * polynomial(_NUMERATOR) / polynomial(_DENOMINATOR)
    y = x * 0.5 * (erf.clamp(-1, 1) + 1)
    return _codes(y, scale, grid)


def fake_gelu_codes(x: Tensor, scale: Tensor, grid: list[int]) -> Tensor:
    """Shape of :func:`gelu_codes`."""
    _check(x, scale, grid)
    return torch.empty(x.shape, dtype=torch.uint8, device=x.device)


def layer_norm_codes(x: Tensor, weight: Tensor, bias: Tensor, eps: float,
                     scale: Tensor, grid: list[int]) -> Tensor:
    """Normalize over the last dimension, then :func:`quantize_codes`.

    The normalized values are within 1e-6 of ``F.layer_norm``'s, relative to
    the largest.

    Args:
        x (Tensor): float32, shape (..., C), any strides.
        weight, bias (Tensor): float32, shape (C, ).
        eps (float): Added to the variance.
        scale (Tensor): float32, shape (1, ).
        grid (list[int]): Zero point, lowest and highest code, 0 to 255.

    Returns:
        Tensor: uint8, shape of ``x``, contiguous.
    """
    return library.operators.layer_norm_codes(x, weight, bias, scale, eps,
                                              grid)


def gelu_codes(x: Tensor, scale: Tensor, grid: list[int]) -> Tensor:
    """GELU (that of the error function), then :func:`quantize_codes`.

    The values differ from those of real numbers by at most ``2.5e-7 * |x|``,
    PyTorch's ``F.gelu`` by up to ``3.7e-7 * |x|``.

    Args:
        x (Tensor): float32, any shape and strides.
        scale (Tensor): float32, shape (1, ).
        grid (list[int]): Zero point, lowest and highest code, 0 to 255.

    Returns:
        Tensor: uint8, shape of ``x``, contiguous.
    """
    return library.operators.gelu_codes(x, scale, grid)


library.register(
    'layer_norm_codes', '(Tensor x, Tensor weight, Tensor bias, Tensor scale, '
    'float eps, int[] grid) -> Tensor', layer_norm_codes_reference,
    fake_layer_norm_codes)
library.register('gelu_codes',
                 '(Tensor x, Tensor scale, int[] grid) -> Tensor',
                 gelu_codes_reference, fake_gelu_codes)
