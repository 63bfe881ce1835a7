"""LayerNorm that hands on codes: one pass over memory.

PyTorch's own is not the same to the last bit on every machine, and a bit may
decide to which side a code falls. This is a sequence of float32 operations,
each rounded on its own in an order that is written down here, so that all
kernels, and the definition on any device, give the same codes.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .arguments import check_tensor, require
from .quantize import check_grid, check_scale, round_codes

# sums that grow side by side
_LANES = 64


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


def _root(x: Tensor) -> Tensor:
    """Square root, rounded once, as IEEE 754 has it.

    PyTorch's own of float32 may be of MKL, and then a bit off.
    """
    return x.double().sqrt().float()


def layer_norm_codes_reference(x: Tensor, weight: Tensor, bias: Tensor,
                               scale: Tensor, eps: float,
                               grid: list[int]) -> Tensor:
    """Definition of :func:`layer_norm_codes` in plain PyTorch."""
    fake_layer_norm_codes(x, weight, bias, scale, eps, grid)
    channels = x.shape[-1]
    y = x - _sum(x) / channels
    variance = _sum(y * y) / channels
    # one rounding per operation
    y = y * (1 / _root(variance + eps))
    y = y * weight
    return round_codes((y + bias) / scale, grid).contiguous()


def fake_layer_norm_codes(x: Tensor, weight: Tensor, bias: Tensor,
                          scale: Tensor, eps: float,
                          grid: list[int]) -> Tensor:
    """Shape of :func:`layer_norm_codes`."""
    require(x.dtype == torch.float32, f'x must be float32, it is {x.dtype}')
    check_scale('scale', scale, x)
    check_grid('grid', grid)
    require(x.dim() > 0 and x.shape[-1] > 0,
            f'x must have features, it has shape {tuple(x.shape)}')
    for name, vector in (('weight', weight), ('bias', bias)):
        check_tensor(name, vector, torch.float32, x, (x.shape[-1], ))
    require(0 <= eps <= 1, f'eps must be a number from 0 to 1, it is {eps}')
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


library.register(
    'layer_norm_codes', '(Tensor x, Tensor weight, Tensor bias, Tensor scale, '
    'float eps, int[] grid) -> Tensor', layer_norm_codes_reference,
    fake_layer_norm_codes)
