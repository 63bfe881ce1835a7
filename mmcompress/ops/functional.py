"""The 1-bit operators as functions."""
import torch
from torch import Tensor

from . import library  # noqa: F401  registers them

_OPS = torch.ops.mmcompress
_Pair = int | tuple[int, int] | list[int]


def _pair(value: _Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def binary_pack(x: Tensor,
                threshold: Tensor | None = None,
                flip: Tensor | None = None) -> Tensor:
    """Compare with a threshold and keep one bit per value.

    Args:
        x (Tensor): float32, shape (N, C, H, W), any strides.
        threshold (Tensor | None): float32, shape (C, ); 0 by default.
        flip (Tensor | None): bool, shape (C, ). The bit is ``x < threshold``
            where True, ``x > threshold`` elsewhere. NaN gives 0 either way.

    Returns:
        Tensor: uint8, shape (N, H, W, 8 * ceil(C / 64)); channel ``c`` is bit
        ``c % 8`` of byte ``c // 8``, the rest is 0.
    """
    return _OPS.binary_pack(x, threshold, flip)


def binary_unpack(bits: Tensor, channels: int) -> Tensor:
    """Turn packed bits into -1 and +1.

    Args:
        bits (Tensor): uint8, shape (N, H, W, 8 * ceil(C / 64)).
        channels (int): C.

    Returns:
        Tensor: float32, shape (N, C, H, W), channels-last memory.
    """
    return _OPS.binary_unpack(bits, channels)


def binary_prepack(weight_bits: Tensor,
                   weight_shape: list[int],
                   groups: int = 1,
                   isa: str = '') -> Tensor:
    """Arrange packed weights as the kernels read them.

    Belongs into the loading of a model. The result depends on the machine, so
    it must not be stored.

    Args:
        weight_bits (Tensor): uint8, shape (K, kh, kw, 8 * ceil(C / groups /
            64)), which :func:`binary_pack` makes of weights of shape
            (K, C / groups, kh, kw).
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        groups (int): Defaults to 1.
        isa (str): Instruction set of the kernel; by default the one in use,
            see :func:`build_info`.

    Returns:
        Tensor: uint8, one dimension.
    """
    return _OPS.binary_prepack(weight_bits, weight_shape, groups, isa)


def binary_conv2d(bits: Tensor,
                  blob: Tensor,
                  weight_shape: list[int],
                  stride: _Pair = 1,
                  padding: _Pair = 0,
                  dilation: _Pair = 1,
                  groups: int = 1,
                  pad_value: int = 0) -> Tensor:
    """Convolve signs with signs: exact integers.

    Args:
        bits (Tensor): Packed input, uint8, shape (N, H, W, 8 * ceil(C / 64)).
        blob (Tensor): Weights from :func:`binary_prepack`.
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        stride, padding, dilation (int | tuple[int, int]): As in
            :func:`torch.nn.functional.conv2d`.
        groups (int): Defaults to 1.
        pad_value (int): What is outside of the image: 0 (counts nothing,
            default) or -1.

    Returns:
        Tensor: Dot products ``k``, int32, shape (N, K, OH, OW), channels-last
        memory.

    Raises:
        ValueError or RuntimeError: If arguments don't fit together.
    """
    return _OPS.binary_conv2d(bits, blob, weight_shape, _pair(stride),
                              _pair(padding), _pair(dilation), groups,
                              pad_value)


def binary_conv2d_bits(bits: Tensor,
                       blob: Tensor,
                       limit: Tensor,
                       flip: Tensor,
                       weight_shape: list[int],
                       stride: _Pair = 1,
                       padding: _Pair = 0,
                       dilation: _Pair = 1,
                       groups: int = 1,
                       pad_value: int = 0) -> Tensor:
    """Convolve signs and keep signs: packed in, packed out.

    The bit of channel ``o`` is ``(k >= limit[o]) ^ flip[o]``;
    :func:`integer_limits` finds both for an affine map and a threshold.

    Args:
        bits, blob, weight_shape, stride, padding, dilation, groups, pad_value:
            As in :func:`binary_conv2d`.
        limit (Tensor): int32, shape (K, ).
        flip (Tensor): bool, shape (K, ).

    Returns:
        Tensor: uint8, shape (N, OH, OW, 8 * ceil(K / 64)).
    """
    return _OPS.binary_conv2d_bits(bits, blob, limit, flip, weight_shape,
                                   _pair(stride), _pair(padding),
                                   _pair(dilation), groups, pad_value)


def binary_conv2d_fused(x: Tensor,
                        blob: Tensor,
                        scale: Tensor,
                        shift: Tensor,
                        weight_shape: list[int],
                        stride: _Pair = 1,
                        padding: _Pair = 0,
                        dilation: _Pair = 1,
                        groups: int = 1,
                        pad_value: int = 0,
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
    """A 1-bit convolution with all that surrounds it in a network.

    Per output channel, every operation rounded on its own in float32::

        y = scale * k + shift
        y = y + residual                  if given
        y = y + pre                       if given
        y = y if y > 0 else slope * y     if given
        y = y + post                      if given

    Args:
        x (Tensor): float32, shape (N, C, H, W), any strides, which is packed
            with ``threshold`` and ``flip`` as in :func:`binary_pack`; or
            packed bits, uint8, shape (N, H, W, 8 * ceil(C / 64)).
        blob, weight_shape, stride, padding, dilation, groups, pad_value: As in
            :func:`binary_conv2d`.
        scale, shift (Tensor): float32, shape (K, ).
        threshold, flip (Tensor | None): Shape (C, ), for a float ``x``.
        residual (Tensor | None): float32, shape (N, K, OH, OW), any strides.
        pre, slope, post (Tensor | None): float32, shape (K, ).
        next_threshold, next_flip (Tensor | None): Shape (K, ); with
            ``next_threshold``, ``y`` is packed with them.
        bits_only (bool): Leave ``y`` out. Defaults to False.

    Returns:
        tuple[Tensor, Tensor]: ``y``, float32, shape (N, K, OH, OW),
        channels-last memory, or empty; and the packed bits of ``y``, uint8,
        shape (N, OH, OW, 8 * ceil(K / 64)), or empty.
    """
    return _OPS.binary_conv2d_fused(x, blob, scale, shift, threshold, flip,
                                    residual, pre, slope, post,
                                    next_threshold, next_flip, weight_shape,
                                    _pair(stride), _pair(padding),
                                    _pair(dilation), groups, pad_value,
                                    bits_only)


def _pixels(tokens: Tensor) -> Tensor:
    """Tokens (..., C) as one row of pixels (1, 1, L, C)."""
    # no image has zero pixels, but a batch has zero images
    leading = (1, 1, -1) if tokens.numel() else (0, 1, 1)
    return tokens.reshape(*leading, tokens.shape[-1])


def _as_image(tokens: Tensor) -> Tensor:
    """Tokens (..., C) as one channels-last image (1, C, 1, L)."""
    return _pixels(tokens).permute(0, 3, 1, 2)


def _as_tokens(image: Tensor, leading: torch.Size) -> Tensor:
    """Undo :func:`_as_image`."""
    return image.permute(0, 2, 3, 1).reshape(*leading, image.shape[1])


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
    bits = binary_pack(_as_image(x), threshold, flip)
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
    k = binary_conv2d(_pixels(bits), blob, weight_shape)
    return _as_tokens(k, bits.shape[:-1])


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
    out = binary_conv2d_bits(_pixels(bits), blob, limit, flip, weight_shape)
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
    leading = x.shape[:-1]
    x = _pixels(x) if x.dtype == torch.uint8 else _as_image(x)
    if residual is not None:
        residual = _as_image(residual)
    y, bits = binary_conv2d_fused(
        x,
        blob,
        scale,
        shift,
        weight_shape,
        residual=residual,
        bits_only=bits_only,
        **channels)
    if not bits_only:
        y = _as_tokens(y, leading)
    if channels.get('next_threshold') is not None:
        bits = bits.reshape(*leading, bits.shape[-1])
    return y, bits
