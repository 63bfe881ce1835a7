"""The 1-bit operators in plain PyTorch: the definition of the kernels.

What the compiled kernels return equals these functions bit for bit. They also
serve wherever no kernel is built, under the same operator names.

A value ``x`` becomes the bit ``x > threshold``; bit 1 stands for +1, bit 0
for -1. Packed bits are ``uint8`` of shape (N, H, W, 8 * ceil(C / 64)): channel
``c`` is bit ``c % 8`` of byte ``c // 8``, the bits after the last channel are
0. That is ``numpy.packbits(..., bitorder='little')``, rows padded to 8 bytes.
"""
import math
import struct

import torch
import torch.nn.functional as F
from torch import Tensor


def packed_bytes(channels: int) -> int:
    """Bytes that hold the bits of one pixel: a multiple of 8."""
    return 8 * ((channels + 63) // 64)


def conv_output_size(size: tuple[int, int], kernel: tuple[int, int],
                     stride: tuple[int, int], padding: tuple[int, int],
                     dilation: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a convolution's output, as in PyTorch."""
    height, width = (
        (i + 2 * p - d * (k - 1) - 1) // s + 1
        for i, k, s, p, d in zip(size, kernel, stride, padding, dilation))
    return height, width


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_tensor(name: str, x: Tensor, dtype: torch.dtype, like: Tensor,
                 shape: tuple[int, ...] | None) -> None:
    """Check an argument's dtype, device and, if given, shape."""
    require(x.dtype == dtype, f'{name} must be {dtype}, it is {x.dtype}')
    require(x.device == like.device,
            f'{name} is on {x.device}, the input on {like.device}')
    require(
        shape is None or tuple(x.shape) == tuple(shape),
        f'{name} must have shape {shape}, it has {tuple(x.shape)}')


def _check_vectors(like: Tensor, channels: int,
                   **vectors: Tensor | None) -> None:
    """Check per-channel arguments; ``flip`` is bool, the others float."""
    for name, vector in vectors.items():
        if vector is not None:
            dtype = torch.bool if name.endswith('flip') else torch.float32
            check_tensor(name, vector, dtype, like, (channels, ))


def check_image(name: str, x: Tensor) -> None:
    require(x.dtype == torch.float32,
            f'{name} must be float32, it is {x.dtype}')
    require(x.dim() == 4 and x.shape[1] > 0,
            f'{name} must be (N, C, H, W), it has shape {tuple(x.shape)}')


def check_weight_shape(weight_shape: list[int], groups: int) -> None:
    """Check ``[K, C / groups, kh, kw]``.

    Raises:
        ValueError: If it isn't four positive numbers, or ``groups`` does not
            divide K.
    """
    require(
        len(weight_shape) == 4 and min(weight_shape) > 0,
        'weight_shape must be four positive numbers (K, C / groups, kh, kw), '
        f'it is {list(weight_shape)}')
    require(
        groups > 0 and weight_shape[0] % groups == 0,
        f'groups must divide the {weight_shape[0]} output channels, it is '
        f'{groups}')


def check_convolution(size: tuple[int, int], num_bytes: int,
                      weight_shape: list[int], stride: list[int],
                      padding: list[int], dilation: list[int], groups: int,
                      pad_value: int) -> tuple[int, int]:
    """Check the arguments of a convolution.

    Args:
        size (tuple[int, int]): Height and width of the input.
        num_bytes (int): Bytes per pixel of the packed input.
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        stride, padding, dilation (list[int]): Two numbers each.
        groups (int): Number of groups.
        pad_value (int): 0 or -1.

    Returns:
        tuple[int, int]: Height and width of the output.

    Raises:
        ValueError: If they don't fit together; names the argument.
    """
    check_weight_shape(weight_shape, groups)
    wanted = weight_shape[1] * groups
    require(
        num_bytes == packed_bytes(wanted),
        f'bits must have {packed_bytes(wanted)} bytes per pixel for {wanted} '
        f'channels, it has {num_bytes}')
    for name, pair, least in (('stride', stride, 1), ('padding', padding, 0),
                              ('dilation', dilation, 1)):
        require(
            len(pair) == 2 and min(pair) >= least,
            f'{name} must be two numbers >= {least}, it is {list(pair)}')
    require(pad_value in (0, -1), f'pad_value must be 0 or -1: {pad_value}')
    out = conv_output_size(size, weight_shape[2:], stride, padding, dilation)
    require(
        min(out) > 0,
        f'the kernel {list(weight_shape[2:])} with padding {list(padding)} '
        f'and dilation {list(dilation)} does not fit into the input '
        f'{list(size)}')
    return out


def check_channels(x: Tensor, weight_shape: list[int], groups: int) -> None:
    """Check the channels of a float input; packed ones are rounded up.

    Raises:
        ValueError: If they aren't those of the weight.
    """
    wanted = weight_shape[1] * groups
    require(x.dtype == torch.uint8 or x.shape[1] == wanted,
            f'x has {x.shape[1]} channels, the weight wants {wanted}')


def _channels_last(x: Tensor) -> Tensor:
    """Copy with canonical channels-last strides, also for 1x1 maps."""
    return torch.empty(
        x.shape,
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last).copy_(x)


def _per_channel(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)


def _unpack_bits(packed: Tensor, channels: int) -> Tensor:
    """Bits of the last dimension, (..., bytes) -> (..., channels), 0 or 1."""
    bits = packed[..., None] >> torch.arange(8, device=packed.device)
    return (bits & 1).flatten(-2)[..., :channels]


def binary_pack(x: Tensor,
                threshold: Tensor | None = None,
                flip: Tensor | None = None) -> Tensor:
    """See :func:`mmcompress.ops.binary_pack`."""
    check_image('x', x)
    channels = x.shape[1]
    _check_vectors(x, channels, threshold=threshold, flip=flip)
    limit = 0 if threshold is None else _per_channel(threshold)
    bits = x > limit
    if flip is not None:
        bits = torch.where(_per_channel(flip), x < limit, bits)
    bits = bits.permute(0, 2, 3, 1).to(torch.uint8)
    bits = F.pad(bits, (0, 8 * packed_bytes(channels) - channels))
    bits = bits.unflatten(-1, (-1, 8)) << torch.arange(8, device=x.device)
    return bits.sum(-1, dtype=torch.uint8)


def binary_unpack(bits: Tensor, channels: int) -> Tensor:
    """See :func:`mmcompress.ops.binary_unpack`."""
    _check_packed('bits', bits)
    require(
        channels > 0 and bits.shape[-1] == packed_bytes(channels),
        f'channels is {channels}, which does not fit the {bits.shape[-1]} '
        'bytes per pixel of bits')
    signs = 2 * _unpack_bits(bits, channels).to(torch.float32) - 1
    return _channels_last(signs.permute(0, 3, 1, 2))


def _check_packed(name: str, bits: Tensor) -> None:
    require(bits.dtype == torch.uint8,
            f'{name} must be uint8, it is {bits.dtype}')
    require(
        bits.dim() == 4,
        f'{name} must be (N, H, W, bytes), it has shape {tuple(bits.shape)}')


def binary_prepack(weight_bits: Tensor,
                   weight_shape: list[int],
                   groups: int = 1,
                   isa: str = '') -> Tensor:
    """See :func:`mmcompress.ops.binary_prepack`."""
    _check_packed('weight_bits', weight_bits)
    check_weight_shape(weight_shape, groups)
    require(
        isa in ('', 'reference'),
        f"isa must be '' or 'reference' without kernels, it is '{isa}'")
    num, channels, height, width = weight_shape
    check_tensor('weight_bits', weight_bits, torch.uint8, weight_bits,
                 (num, height, width, packed_bytes(channels)))
    header = torch.tensor(
        list(_blob_header(weight_shape, groups)),
        dtype=torch.uint8,
        device=weight_bits.device)
    return torch.cat([header, weight_bits.reshape(-1)])


def _blob_header(weight_shape: list[int], groups: int) -> bytes:
    """What a blob of the reference begins with."""
    return b'mmcompress bits ' + struct.pack('<5q', *weight_shape, groups)


def _weight_signs(blob: Tensor, weight_shape: list[int],
                  groups: int) -> Tensor:
    """Weights of -1 and +1 from what :func:`binary_prepack` made."""
    num, channels, height, width = weight_shape
    num_bytes = packed_bytes(channels)
    wanted = _blob_header(weight_shape, groups)
    header, bits = blob[:len(wanted)], blob[len(wanted):]
    require(
        blob.dim() == 1 and bytes(header.tolist()) == wanted
        and bits.numel() == num * height * width * num_bytes,
        'blob was not made by binary_prepack for this weight_shape and '
        'groups, with the kernels in use on this device')
    bits = bits.view(num, height, width, num_bytes)
    signs = 2 * _unpack_bits(bits, channels).to(torch.float32) - 1
    return signs.permute(0, 3, 1, 2)


def _count(bits: Tensor, blob: Tensor, weight_shape: list[int],
           stride: list[int], padding: list[int], dilation: list[int],
           groups: int, pad_value: int) -> Tensor:
    """Dot products of signs as float32, (N, K, OH, OW)."""
    _check_packed('bits', bits)
    check_tensor('blob', blob, torch.uint8, bits, None)
    check_convolution(bits.shape[1:3], bits.shape[3], weight_shape, stride,
                      padding, dilation, groups, pad_value)
    x = binary_unpack(bits, weight_shape[1] * groups)
    if pad_value:
        vertical, horizontal = padding
        x = F.pad(
            x, (horizontal, horizontal, vertical, vertical), value=pad_value)
        padding = (0, 0)
    # sums of fewer than 2**24 signs are exact in float32; some backends
    # transform small kernels (Winograd), which is exact after rounding
    return F.conv2d(x, _weight_signs(blob, weight_shape, groups), None, stride,
                    padding, dilation, groups).round_()


def binary_conv2d(bits: Tensor,
                  blob: Tensor,
                  weight_shape: list[int],
                  stride: list[int],
                  padding: list[int],
                  dilation: list[int],
                  groups: int = 1,
                  pad_value: int = 0) -> Tensor:
    """See :func:`mmcompress.ops.binary_conv2d`."""
    k = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    return _channels_last(k.to(torch.int32))


def binary_conv2d_bits(bits: Tensor,
                       blob: Tensor,
                       limit: Tensor,
                       flip: Tensor,
                       weight_shape: list[int],
                       stride: list[int],
                       padding: list[int],
                       dilation: list[int],
                       groups: int = 1,
                       pad_value: int = 0) -> Tensor:
    """See :func:`mmcompress.ops.binary_conv2d_bits`."""
    k = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    check_tensor('limit', limit, torch.int32, bits, (k.shape[1], ))
    _check_vectors(bits, k.shape[1], flip=flip)
    passes = (k.to(torch.int32) >= _per_channel(limit)) ^ _per_channel(flip)
    return binary_pack(passes.to(torch.float32))


def binary_conv2d_fused(x: Tensor,
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
    """See :func:`mmcompress.ops.binary_conv2d_fused`."""
    require(not bits_only or next_threshold is not None,
            'bits_only needs next_threshold')
    is_packed = x.dtype == torch.uint8
    require(not is_packed or (threshold is None and flip is None),
            'threshold and flip need a float x, it is packed')
    require(next_flip is None or next_threshold is not None,
            'next_flip needs next_threshold')
    check_channels(x, weight_shape, groups)
    bits = x if is_packed else binary_pack(x, threshold, flip)
    y = _count(bits, blob, weight_shape, stride, padding, dilation, groups,
               pad_value)
    _check_vectors(
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
    y = y * _per_channel(scale)
    y = y + _per_channel(shift)
    if residual is not None:
        check_tensor('residual', residual, torch.float32, x, tuple(y.shape))
        y = y + residual
    if pre is not None:
        y = y + _per_channel(pre)
    if slope is not None:
        y = torch.where(y > 0, y, y * _per_channel(slope))
    if post is not None:
        y = y + _per_channel(post)
    out = x.new_empty(0, dtype=torch.uint8)
    if next_threshold is not None:
        out = binary_pack(y, next_threshold, next_flip)
    if bits_only:
        return x.new_empty(0, dtype=torch.float32), out
    return _channels_last(y), out


def integer_limits(scale: Tensor, shift: Tensor, next_threshold: Tensor,
                   next_flip: Tensor | None,
                   num_products: int) -> tuple[Tensor, Tensor]:
    """Turn a threshold on ``scale * k + shift`` into one on the integer k.

    ``(k >= limit) ^ flip`` equals the bit that :func:`binary_pack` makes of
    ``scale * k + shift`` (two roundings in float32) with ``next_threshold``
    and ``next_flip``, for every integer ``k`` in
    ``[-num_products, num_products]``: ties, infinities and NaN included.

    Args:
        scale (Tensor): float32, shape (K, ).
        shift (Tensor): float32, shape (K, ).
        next_threshold (Tensor): float32, shape (K, ).
        next_flip (Tensor | None): bool, shape (K, ).
        num_products (int): Products in one dot product,
            ``kh * kw * C / groups``.

    Returns:
        tuple[Tensor, Tensor]: ``limit``, int32, and ``flip``, bool, both of
        shape (K, ), for :func:`mmcompress.ops.binary_conv2d_bits`.
    """
    num = scale.numel()
    _check_vectors(
        scale,
        num,
        scale=scale,
        shift=shift,
        next_threshold=next_threshold,
        next_flip=next_flip)
    below = torch.zeros_like(scale, dtype=torch.bool) \
        if next_flip is None else next_flip
    # the bit falls with k where exactly one of the two turns the comparison
    flip = (scale < 0) ^ below

    def rises(k: Tensor) -> Tensor:
        y = scale * k.to(torch.float32) + shift
        bit = torch.where(below, y < next_threshold, y > next_threshold)
        return bit ^ flip

    # rounding is monotone, and so is the bit: bisect for the smallest k
    low = torch.full_like(scale, -num_products, dtype=torch.int32)
    high = torch.full_like(low, num_products + 1)
    for _ in range(math.ceil(math.log2(2 * num_products + 2))):
        middle = torch.div(low + high, 2, rounding_mode='floor')
        found = rises(middle)
        high = torch.where(found, middle, high)
        low = torch.where(found | (low == high), low, middle + 1)
    return high, flip
