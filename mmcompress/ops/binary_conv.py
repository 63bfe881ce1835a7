"""Convolutions of signs: counts, bits, or floats with all around them."""
import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .arguments import (channels_last, check_convolution, check_image,
                        check_tensor, check_vectors, check_weight_shape,
                        empty_image, packed_bytes, per_channel, require)
from .blob import weight_signs
from .packing import (binary_pack_reference, binary_unpack_reference,
                      fake_binary_pack)

_Pair = int | tuple[int, int] | list[int]


def _pair(value: _Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def check_channels(x: Tensor, weight_shape: list[int], groups: int) -> None:
    """Check the channels of a float input; packed ones are rounded up.

    Raises:
        ValueError: If they aren't those of the weight.
    """
    check_weight_shape(weight_shape, groups)
    wanted = weight_shape[1] * groups
    if x.dtype != torch.uint8:
        check_image('x', x)
    require(x.dtype == torch.uint8 or x.shape[1] == wanted,
            f'x has {x.shape[1]} channels, the weight wants {wanted}')


def _contiguous(x: Tensor) -> Tensor:
    """Copy with canonical strides.

    ``x.contiguous()`` is not enough: channels-last strides of one channel
    count as contiguous, and are kept.
    """
    return torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x)


def _count(bits: Tensor, blob: Tensor, weight_shape: list[int],
           stride: list[int], padding: list[int], dilation: list[int],
           groups: int, pad_value: int) -> Tensor:
    """Dot products of signs as float32, (N, K, OH, OW)."""
    check_convolution(bits, blob, weight_shape, stride, padding, dilation,
                      groups, pad_value)
    # canonical NCHW memory: oneDNN miscounts some convolutions of one channel
    # in channels-last memory (seen: a 5x5 kernel of stride 3)
    x = _contiguous(binary_unpack_reference(bits, weight_shape[1] * groups))
    weight = _contiguous(weight_signs(blob, weight_shape, groups))
    if pad_value:
        vertical, horizontal = padding
        x = F.pad(
            x, (horizontal, horizontal, vertical, vertical), value=pad_value)
        padding = (0, 0)
    # sums of up to MAX_PRODUCTS signs are exact in float32; some backends
    # transform small kernels (Winograd), which is exact after rounding
    return F.conv2d(x, weight, None, stride, padding, dilation,
                    groups).round_()


def binary_conv2d_reference(bits: Tensor,
                            blob: Tensor,
                            weight_shape: list[int],
                            stride: list[int],
                            padding: list[int],
                            dilation: list[int],
                            groups: int = 1,
                            pad_value: int = 0) -> Tensor:
    """Definition of :func:`binary_conv2d` in plain PyTorch."""
    k = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    return channels_last(k.to(torch.int32))


def fake_binary_conv2d(bits: Tensor,
                       blob: Tensor,
                       weight_shape: list[int],
                       stride: list[int],
                       padding: list[int],
                       dilation: list[int],
                       groups: int = 1,
                       pad_value: int = 0) -> Tensor:
    """Shape of :func:`binary_conv2d`."""
    out = check_convolution(bits, blob, weight_shape, stride, padding,
                            dilation, groups, pad_value)
    return empty_image(bits, (bits.shape[0], weight_shape[0], *out),
                       torch.int32)


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
    return library.operators.binary_conv2d(bits, blob, weight_shape,
                                           _pair(stride), _pair(padding),
                                           _pair(dilation), groups, pad_value)


def binary_conv2d_bits_reference(bits: Tensor,
                                 blob: Tensor,
                                 limit: Tensor,
                                 flip: Tensor,
                                 weight_shape: list[int],
                                 stride: list[int],
                                 padding: list[int],
                                 dilation: list[int],
                                 groups: int = 1,
                                 pad_value: int = 0) -> Tensor:
    """Definition of :func:`binary_conv2d_bits` in plain PyTorch."""
    k = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    check_tensor('limit', limit, torch.int32, bits, (k.shape[1], ))
    check_vectors(bits, k.shape[1], flip=flip)
    passes = (k.to(torch.int32) >= per_channel(limit)) ^ per_channel(flip)
    return binary_pack_reference(passes.to(torch.float32))


def _empty_bits(k: Tensor) -> Tensor:
    num, channels, height, width = k.shape
    return k.new_empty((num, height, width, packed_bytes(channels)),
                       dtype=torch.uint8)


def fake_binary_conv2d_bits(bits: Tensor, blob: Tensor, limit: Tensor,
                            flip: Tensor, *conv) -> Tensor:
    """Shape of :func:`binary_conv2d_bits`."""
    return _empty_bits(fake_binary_conv2d(bits, blob, *conv))


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
    return library.operators.binary_conv2d_bits(bits, blob, limit,
                                                flip, weight_shape,
                                                _pair(stride), _pair(padding),
                                                _pair(dilation), groups,
                                                pad_value)


def _check_fused(x: Tensor, threshold: Tensor | None, flip: Tensor | None,
                 next_threshold: Tensor | None, next_flip: Tensor | None,
                 bits_only: bool) -> bool:
    """Check what needs what, and say whether ``x`` is packed."""
    require(not bits_only or next_threshold is not None,
            'bits_only needs next_threshold')
    is_packed = x.dtype == torch.uint8
    require(not is_packed or (threshold is None and flip is None),
            'threshold and flip need a float x, it is packed')
    require(next_flip is None or next_threshold is not None,
            'next_flip needs next_threshold')
    return is_packed


def binary_conv2d_fused_reference(
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
        weight_shape: list[int],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int = 1,
        pad_value: int = 0,
        bits_only: bool = False) -> tuple[Tensor, Tensor]:
    """Definition of :func:`binary_conv2d_fused` in plain PyTorch."""
    is_packed = _check_fused(x, threshold, flip, next_threshold, next_flip,
                             bits_only)
    check_channels(x, weight_shape, groups)
    bits = x if is_packed else binary_pack_reference(x, threshold, flip)
    y = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    check_vectors(
        x,
        y.shape[1],
        scale=scale,
        shift=shift,
        pre=pre,
        slope=slope,
        post=post,
        next_threshold=next_threshold,
        next_flip=next_flip)
    # one rounding per line
    y = y * per_channel(scale)
    y = y + per_channel(shift)
    if residual is not None:
        check_tensor('residual', residual, torch.float32, x, tuple(y.shape))
        y = y + residual
    if pre is not None:
        y = y + per_channel(pre)
    if slope is not None:
        y = torch.where(y > 0, y, y * per_channel(slope))
    if post is not None:
        y = y + per_channel(post)
    out = x.new_empty(0, dtype=torch.uint8)
    if next_threshold is not None:
        out = binary_pack_reference(y, next_threshold, next_flip)
    if bits_only:
        return x.new_empty(0, dtype=torch.float32), out
    return channels_last(y), out


def fake_binary_conv2d_fused(x: Tensor,
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
                             weight_shape: list[int],
                             stride: list[int],
                             padding: list[int],
                             dilation: list[int],
                             groups: int = 1,
                             pad_value: int = 0,
                             bits_only: bool = False) -> tuple[Tensor, Tensor]:
    """Shape of :func:`binary_conv2d_fused`."""
    is_packed = _check_fused(x, threshold, flip, next_threshold, next_flip,
                             bits_only)
    check_channels(x, weight_shape, groups)
    bits = x if is_packed else fake_binary_pack(x, threshold, flip)
    k = fake_binary_conv2d(bits, blob, weight_shape, stride, padding, dilation,
                           groups, pad_value)
    out = x.new_empty(0, dtype=torch.uint8)
    if next_threshold is not None:
        out = _empty_bits(k)
    if bits_only:
        return x.new_empty(0, dtype=torch.float32), out
    return empty_image(x, k.shape, torch.float32), out


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
    return library.operators.binary_conv2d_fused(
        x, blob, scale, shift, threshold, flip, residual, pre, slope, post,
        next_threshold, next_flip, weight_shape, _pair(stride), _pair(padding),
        _pair(dilation), groups, pad_value, bits_only)


_CONV = ('int[] weight_shape, int[2] stride, int[2] padding, '
         'int[2] dilation, int groups=1, int pad_value=0')
library.register(
    'binary_conv2d',
    f'(Tensor bits, Tensor blob, {_CONV}) -> Tensor',
    binary_conv2d_reference,
    fake_binary_conv2d,
    warns=True)
library.register(
    'binary_conv2d_bits',
    f'(Tensor bits, Tensor blob, Tensor limit, Tensor flip, {_CONV}) '
    '-> Tensor',
    binary_conv2d_bits_reference,
    fake_binary_conv2d_bits,
    warns=True)
library.register(
    'binary_conv2d_fused',
    '(Tensor x, Tensor blob, Tensor scale, Tensor shift, Tensor? threshold, '
    'Tensor? flip, Tensor? residual, Tensor? pre, Tensor? slope, '
    'Tensor? post, Tensor? next_threshold, Tensor? next_flip, '
    f'{_CONV}, bool bits_only=False) -> (Tensor, Tensor)',
    binary_conv2d_fused_reference,
    fake_binary_conv2d_fused,
    warns=True)
