"""The 1-bit operators for features in the last dimension."""
import torch
from torch import Tensor

from mmcompress.pixels import as_pixels, from_pixels
from .binary_conv import binary_conv2d, binary_conv2d_bits, binary_conv2d_fused
from .packing import binary_pack


def _bits_as_pixels(bits: Tensor) -> Tensor:
    """Packed tokens (..., B) as one row of packed pixels (1, 1, L, B)."""
    return as_pixels(bits, True).permute(0, 2, 3, 1)


def binary_linear_pack(x: Tensor,
                       threshold: Tensor | None = None,
                       flip: Tensor | None = None) -> Tensor:
    """:func:`binary_pack` of features in the last dimension.

    Args:
        x (Tensor): float32, shape (..., C).
        threshold, flip (Tensor | None): Shape (C, ).

    Returns:
        Tensor: uint8, shape (..., 8 * ceil(C / 64)).
    """
    bits = binary_pack(as_pixels(x, True), threshold, flip)
    return bits.reshape(*x.shape[:-1], bits.shape[-1])


def binary_linear(bits: Tensor, blob: Tensor,
                  weight_shape: list[int]) -> Tensor:
    """Multiply signs with a matrix of signs: exact integers.

    Args:
        bits (Tensor): uint8, shape (..., 8 * ceil(C / 64)).
        blob (Tensor): Weights from :func:`binary_prepack`.
        weight_shape (list[int]): ``[K, C, 1, 1]``.

    Returns:
        Tensor: int32, shape (..., K).
    """
    k = binary_conv2d(_bits_as_pixels(bits), blob, weight_shape)
    return from_pixels(k, bits, True)


def binary_linear_bits(bits: Tensor, blob: Tensor, limit: Tensor, flip: Tensor,
                       weight_shape: list[int]) -> Tensor:
    """:func:`binary_conv2d_bits` for features in the last dimension.

    Args:
        bits (Tensor): uint8, shape (..., 8 * ceil(C / 64)).
        blob, weight_shape: As in :func:`binary_linear`.
        limit, flip (Tensor): As in :func:`binary_conv2d_bits`.

    Returns:
        Tensor: uint8, shape (..., 8 * ceil(K / 64)).
    """
    out = binary_conv2d_bits(
        _bits_as_pixels(bits), blob, limit, flip, weight_shape)
    return out.reshape(*bits.shape[:-1], out.shape[-1])


def binary_linear_fused(x: Tensor,
                        blob: Tensor,
                        scale: Tensor,
                        shift: Tensor,
                        weight_shape: list[int],
                        *,
                        residual: Tensor | None = None,
                        bits_only: bool = False,
                        **channels: Tensor | None) -> tuple[Tensor, Tensor]:
    """:func:`binary_conv2d_fused` for features in the last dimension.

    Args:
        x (Tensor): float32, shape (..., C), or packed, uint8, shape (...,
            8 * ceil(C / 64)).
        blob, weight_shape: As in :func:`binary_linear`.
        scale, shift (Tensor): float32, shape (K, ).
        residual (Tensor | None): float32, shape (..., K).
        bits_only (bool): Leave ``y`` out. Defaults to False.
        **channels (Tensor | None): ``threshold``, ``flip``, ``pre``,
            ``slope``, ``post``, ``next_threshold``, ``next_flip`` as in
            :func:`binary_conv2d_fused`.

    Returns:
        tuple[Tensor, Tensor]: ``y``, float32, shape (..., K), or empty; and
        its bits, uint8, shape (..., 8 * ceil(K / 64)), or empty.
    """
    if residual is not None:
        residual = as_pixels(residual, True)
    y, bits = binary_conv2d_fused(
        _bits_as_pixels(x) if x.dtype == torch.uint8 else as_pixels(x, True),
        blob,
        scale,
        shift,
        weight_shape,
        residual=residual,
        bits_only=bits_only,
        **channels)
    if not bits_only:
        y = from_pixels(y, x, True)
    if channels.get('next_threshold') is not None:
        bits = bits.reshape(*x.shape[:-1], bits.shape[-1])
    return y, bits
