"""Signs as bits: binary_pack and binary_unpack.

A value ``x`` becomes the bit ``x > threshold``; bit 1 stands for +1, bit 0
for -1. Packed bits are ``uint8`` of shape (N, H, W, 8 * ceil(C / 64)): channel
``c`` is bit ``c % 8`` of byte ``c // 8``, the bits after the last channel are
0. That is ``numpy.packbits(..., bitorder='little')``, rows padded to 8 bytes.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from . import library
from .arguments import (channels_last, check_image, check_packed,
                        check_vectors, empty_image, packed_bytes, per_channel,
                        require)


def binary_pack_reference(x: Tensor,
                          threshold: Tensor | None = None,
                          flip: Tensor | None = None) -> Tensor:
    """Definition of :func:`binary_pack` in plain PyTorch."""
    check_image('x', x)
    channels = x.shape[1]
    check_vectors(x, channels, threshold=threshold, flip=flip)
    limit = 0 if threshold is None else per_channel(threshold)
    bits = x > limit
    if flip is not None:
        bits = torch.where(per_channel(flip), x < limit, bits)
    bits = bits.permute(0, 2, 3, 1).to(torch.uint8)
    bits = F.pad(bits, (0, 8 * packed_bytes(channels) - channels))
    bits = bits.unflatten(-1, (-1, 8)) << torch.arange(8, device=x.device)
    return bits.sum(-1, dtype=torch.uint8)


def fake_binary_pack(x: Tensor,
                     threshold: Tensor | None = None,
                     flip: Tensor | None = None) -> Tensor:
    """Shape of :func:`binary_pack`."""
    check_image('x', x)
    num, channels, height, width = x.shape
    check_vectors(x, channels, threshold=threshold, flip=flip)
    return x.new_empty((num, height, width, packed_bytes(channels)),
                       dtype=torch.uint8)


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
    return library.operators.binary_pack(x, threshold, flip)


def unpack_bits(packed: Tensor, channels: int) -> Tensor:
    """Bits of the last dimension, (..., bytes) -> (..., channels), 0 or 1."""
    bits = packed[..., None] >> torch.arange(8, device=packed.device)
    return (bits & 1).flatten(-2)[..., :channels]


def _check_unpack(bits: Tensor, channels: int) -> None:
    check_packed('bits', bits)
    require(
        channels > 0 and bits.shape[-1] == packed_bytes(channels),
        f'channels is {channels}, which does not fit the {bits.shape[-1]} '
        'bytes per pixel of bits')


def binary_unpack_reference(bits: Tensor, channels: int) -> Tensor:
    """Definition of :func:`binary_unpack` in plain PyTorch."""
    _check_unpack(bits, channels)
    signs = 2 * unpack_bits(bits, channels).to(torch.float32) - 1
    return channels_last(signs.permute(0, 3, 1, 2))


def fake_binary_unpack(bits: Tensor, channels: int) -> Tensor:
    """Shape of :func:`binary_unpack`."""
    _check_unpack(bits, channels)
    num, height, width, _ = bits.shape
    return empty_image(bits, (num, channels, height, width), torch.float32)


def binary_unpack(bits: Tensor, channels: int) -> Tensor:
    """Turn packed bits into -1 and +1.

    Args:
        bits (Tensor): uint8, shape (N, H, W, 8 * ceil(C / 64)).
        channels (int): C.

    Returns:
        Tensor: float32, shape (N, C, H, W), channels-last memory.
    """
    return library.operators.binary_unpack(bits, channels)


library.register(
    'binary_pack',
    '(Tensor x, Tensor? threshold=None, Tensor? flip=None) -> Tensor',
    binary_pack_reference, fake_binary_pack)
library.register('binary_unpack', '(Tensor bits, int channels) -> Tensor',
                 binary_unpack_reference, fake_binary_unpack)
