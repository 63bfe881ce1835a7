"""The 1-bit operators for features in the last dimension.

Each is an operator of its own: for a single row, views of the tensors and a
convolution's lists of numbers would take longer than the layer.
"""
from functools import partial
from types import SimpleNamespace

import torch
from torch import Tensor

from mmcompress.pixels import as_pixels, from_pixels
from . import library
from .arguments import MAX_CHANNELS, MAX_PRODUCTS, require

# stride, padding and dilation of a linear layer
_AS_CONVOLUTION = ([1, 1], [0, 0], [1, 1])


def _check_features(name: str, x: Tensor) -> None:
    require(x.dim() > 0 and x.shape[-1] > 0,
            f'{name} must be (..., features), it has shape {tuple(x.shape)}')


def _check_size(num_outputs: int, channels: int) -> None:
    for name, value, most in (('num_outputs', num_outputs, MAX_CHANNELS),
                              ('channels', channels, MAX_PRODUCTS)):
        require(1 <= value <= most,
                f'{name} must be from 1 to {most}, it is {value}')


def _as_image(x: Tensor) -> Tensor:
    """Tokens (..., C), or packed ones, as the input of a convolution."""
    image = as_pixels(x, True)
    return image.permute(0, 2, 3, 1) if x.dtype == torch.uint8 else image


def _as_tokens(bits: Tensor, like: Tensor) -> Tensor:
    """Packed pixels as packed tokens (..., B)."""
    return bits.reshape(*like.shape[:-1], bits.shape[-1])


def pack_by_pixels(engine: SimpleNamespace,
                   x: Tensor,
                   threshold: Tensor | None = None,
                   flip: Tensor | None = None) -> Tensor:
    """:func:`binary_linear_pack` on another engine's convolutions."""
    _check_features('x', x)
    return _as_tokens(engine.binary_pack(_as_image(x), threshold, flip), x)


def count_by_pixels(engine: SimpleNamespace, bits: Tensor, blob: Tensor,
                    num_outputs: int, channels: int) -> Tensor:
    """:func:`binary_linear` on another engine's convolutions."""
    _check_features('bits', bits)
    _check_size(num_outputs, channels)
    k = engine.binary_conv2d(
        _as_image(bits), blob, [num_outputs, channels, 1, 1], *_AS_CONVOLUTION)
    return from_pixels(k, bits, True)


def bits_by_pixels(engine: SimpleNamespace, bits: Tensor, blob: Tensor,
                   limit: Tensor, flip: Tensor, num_outputs: int,
                   channels: int) -> Tensor:
    """:func:`binary_linear_bits` on another engine's convolutions."""
    _check_features('bits', bits)
    _check_size(num_outputs, channels)
    out = engine.binary_conv2d_bits(
        _as_image(bits), blob, limit, flip, [num_outputs, channels, 1, 1],
        *_AS_CONVOLUTION)
    return _as_tokens(out, bits)


def fused_by_pixels(engine: SimpleNamespace,
                    x: Tensor,
                    blob: Tensor,
                    scale: Tensor,
                    shift: Tensor,
                    threshold: Tensor | None,
                    flip: Tensor | None,
                    residual: Tensor | None,
                    pre: Tensor | None,
                    slope: Tensor | None,
                    post: Tensor | None,
                    next_threshold: Tensor | None,
                    next_flip: Tensor | None,
                    num_outputs: int,
                    channels: int,
                    bits_only: bool = False) -> tuple[Tensor, Tensor]:
    """:func:`binary_linear_fused` on another engine's convolutions."""
    _check_features('x', x)
    _check_size(num_outputs, channels)
    if residual is not None:
        wanted = (*x.shape[:-1], num_outputs)
        require(
            tuple(residual.shape) == wanted,
            f'residual must have shape {wanted}, it has '
            f'{tuple(residual.shape)}')
        residual = _as_image(residual)
    y, bits = engine.binary_conv2d_fused(
        _as_image(x), blob, scale, shift, threshold, flip, residual, pre,
        slope, post, next_threshold, next_flip, [num_outputs, channels, 1, 1],
        *_AS_CONVOLUTION, 1, 0, bits_only)
    if not bits_only:
        y = from_pixels(y, x, True)
    if next_threshold is not None:
        bits = _as_tokens(bits, x)
    return y, bits


def _linear_size(weight_shape: list[int]) -> tuple[int, int]:
    num_outputs, channels, *kernel = weight_shape
    require(kernel == [1, 1],
            f'weight_shape must be [K, C, 1, 1], it is {list(weight_shape)}')
    return num_outputs, channels


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
    return library.operators.binary_linear_pack(x, threshold, flip)


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
    return library.operators.binary_linear(bits, blob,
                                           *_linear_size(weight_shape))


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
    return library.operators.binary_linear_bits(bits, blob, limit, flip,
                                                *_linear_size(weight_shape))


def binary_linear_fused(x: Tensor,
                        blob: Tensor,
                        scale: Tensor,
                        shift: Tensor,
                        weight_shape: list[int],
                        *,
                        threshold: Tensor | None = None,
                        flip: Tensor | None = None,
                        residual: Tensor | None = None,
                        pre: Tensor | None = None,
                        slope: Tensor | None = None,
                        post: Tensor | None = None,
                        next_threshold: Tensor | None = None,
                        next_flip: Tensor | None = None,
                        bits_only: bool = False) -> tuple[Tensor, Tensor]:
    """:func:`binary_conv2d_fused` for features in the last dimension.

    Args:
        x (Tensor): float32, shape (..., C), or packed, uint8, shape (...,
            8 * ceil(C / 64)).
        blob, weight_shape: As in :func:`binary_linear`.
        scale, shift (Tensor): float32, shape (K, ).
        residual (Tensor | None): float32, shape (..., K).
        threshold, flip, pre, slope, post, next_threshold, next_flip: As in
            :func:`binary_conv2d_fused`.
        bits_only (bool): Leave ``y`` out. Defaults to False.

    Returns:
        tuple[Tensor, Tensor]: ``y``, float32, shape (..., K), or empty; and
        its bits, uint8, shape (..., 8 * ceil(K / 64)), or empty.
    """
    return library.operators.binary_linear_fused(x, blob, scale, shift,
                                                 threshold, flip, residual,
                                                 pre, slope, post,
                                                 next_threshold, next_flip,
                                                 *_linear_size(weight_shape),
                                                 bits_only)


# schemas, and what the operators compute by those for images
BY_PIXELS = dict(
    binary_linear_pack=(
        '(Tensor x, Tensor? threshold=None, Tensor? flip=None) -> Tensor',
        pack_by_pixels),
    binary_linear=(
        '(Tensor bits, Tensor blob, int num_outputs, int channels) -> Tensor',
        count_by_pixels),
    binary_linear_bits=(
        '(Tensor bits, Tensor blob, Tensor limit, Tensor flip, '
        'int num_outputs, int channels) -> Tensor', bits_by_pixels),
    binary_linear_fused=(
        '(Tensor x, Tensor blob, Tensor scale, Tensor shift, '
        'Tensor? threshold, Tensor? flip, Tensor? residual, Tensor? pre, '
        'Tensor? slope, Tensor? post, Tensor? next_threshold, '
        'Tensor? next_flip, int num_outputs, int channels, '
        'bool bits_only=False) -> (Tensor, Tensor)', fused_by_pixels))
for _name, (_schema, _by_pixels) in BY_PIXELS.items():
    # a device that has kernels for images only serves tokens by them
    _elsewhere = partial(_by_pixels, torch.ops.mmcompress)
    library.register(
        _name,
        _schema,
        partial(_by_pixels, library.reference),
        _elsewhere,
        elsewhere=_elsewhere)
