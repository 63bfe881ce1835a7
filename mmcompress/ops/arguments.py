"""What the operators check of their arguments, and in which words.

The references and the shape functions call these; ``ops/csrc/arguments.h``
says the same for the kernels.
"""
import math

import torch
from torch import Tensor

# largest stride, padding, dilation, output size and sampling ratio: far above
# those of any network, so that no call runs for hours because of one number
MAX_GEOMETRY = 4096
# most products that one output sums up: float32 holds all of the sums
MAX_PRODUCTS = 2**24
# most output channels
MAX_CHANNELS = 2**24


def packed_bytes(channels: int) -> int:
    """Bytes that hold the bits of one pixel: a multiple of 8."""
    return 8 * ((channels + 63) // 64)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_tensor(name: str, x: Tensor, dtype: torch.dtype, like: Tensor,
                 shape: tuple[int, ...] | None) -> None:
    """Check an argument's dtype, device and, if given, shape."""
    # layers call this many times per image: no message before it is needed
    if (x.dtype == dtype and x.device == like.device
            and (shape is None or x.shape == shape)):
        return
    require(x.dtype == dtype, f'{name} must be {dtype}, it is {x.dtype}')
    require(x.device == like.device,
            f'{name} is on {x.device}, the input on {like.device}')
    require(
        shape is None or tuple(x.shape) == tuple(shape),
        f'{name} must have shape {shape}, it has {tuple(x.shape)}')


def check_vectors(like: Tensor, channels: int,
                  **vectors: Tensor | None) -> None:
    """Check per-channel arguments; ``flip`` is bool, the others float."""
    for name, vector in vectors.items():
        if vector is not None:
            dtype = torch.bool if name.endswith('flip') else torch.float32
            check_tensor(name, vector, dtype, like, (channels, ))


def check_pair(name: str, pair: list[int], least: int) -> None:
    """Check a stride, padding, dilation or output size."""
    require(
        len(pair) == 2 and all(least <= i <= MAX_GEOMETRY for i in pair),
        f'{name} must be two numbers from {least} to {MAX_GEOMETRY}, it is '
        f'{list(pair)}')


def check_image(name: str, x: Tensor) -> None:
    """Check float32 (N, C, H, W)."""
    require(x.dtype == torch.float32,
            f'{name} must be float32, it is {x.dtype}')
    require(x.dim() == 4 and x.shape[1] > 0,
            f'{name} must be (N, C, H, W), it has shape {tuple(x.shape)}')


def check_packed(name: str, bits: Tensor) -> None:
    """Check uint8 (N, H, W, bytes)."""
    require(bits.dtype == torch.uint8,
            f'{name} must be uint8, it is {bits.dtype}')
    require(
        bits.dim() == 4,
        f'{name} must be (N, H, W, bytes), it has shape {tuple(bits.shape)}')


def check_weight_shape(weight_shape: list[int], groups: int) -> None:
    """Check ``[K, C / groups, kh, kw]``.

    Raises:
        ValueError: If it isn't four positive numbers, has too many outputs or
            products per output, or ``groups`` does not divide K.
    """
    require(
        len(weight_shape) == 4 and min(weight_shape) > 0,
        'weight_shape must be four positive numbers (K, C / groups, kh, kw), '
        f'it is {list(weight_shape)}')
    require(
        weight_shape[0] <= MAX_CHANNELS,
        f'weight_shape {list(weight_shape)} has more than {MAX_CHANNELS} '
        'output channels')
    require(
        math.prod(weight_shape[1:]) <= MAX_PRODUCTS,
        f'weight_shape {list(weight_shape)} has more than {MAX_PRODUCTS} '
        'products per output')
    require(
        groups > 0 and weight_shape[0] % groups == 0,
        f'groups must divide the {weight_shape[0]} output channels, it is '
        f'{groups}')


def conv_output_size(size: tuple[int, int], kernel: tuple[int, int],
                     stride: tuple[int, int], padding: tuple[int, int],
                     dilation: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a convolution's output, as in PyTorch."""
    height, width = (
        (i + 2 * p - d * (k - 1) - 1) // s + 1
        for i, k, s, p, d in zip(size, kernel, stride, padding, dilation))
    return height, width


def check_convolution(bits: Tensor, blob: Tensor, weight_shape: list[int],
                      stride: list[int], padding: list[int],
                      dilation: list[int], groups: int,
                      pad_value: int) -> tuple[int, int]:
    """Check the arguments of a convolution.

    Args:
        bits (Tensor): Packed input, shape (N, H, W, bytes).
        blob (Tensor): Prepacked weight.
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        stride, padding, dilation (list[int]): Two numbers each.
        groups (int): Number of groups.
        pad_value (int): 0 or -1.

    Returns:
        tuple[int, int]: Height and width of the output.

    Raises:
        ValueError: If they don't fit together; names the argument.
    """
    check_packed('bits', bits)
    check_tensor('blob', blob, torch.uint8, bits, None)
    check_weight_shape(weight_shape, groups)
    _, *size, num_bytes = bits.shape
    wanted = weight_shape[1] * groups
    require(
        num_bytes == packed_bytes(wanted),
        f'bits must have {packed_bytes(wanted)} bytes per pixel for {wanted} '
        f'channels, it has {num_bytes}')
    require(pad_value in (0, -1), f'pad_value must be 0 or -1: {pad_value}')
    return check_geometry(size, weight_shape, stride, padding, dilation)


def check_geometry(size: tuple[int, int], weight_shape: list[int],
                   stride: list[int], padding: list[int],
                   dilation: list[int]) -> tuple[int, int]:
    """Check how a convolution moves over an image.

    Args:
        size (tuple[int, int]): Height and width of the input.
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        stride, padding, dilation (list[int]): Two numbers each.

    Returns:
        tuple[int, int]: Height and width of the output.

    Raises:
        ValueError: If a number is out of its range, or the kernel too large.
    """
    for name, pair, least in (('stride', stride, 1), ('padding', padding, 0),
                              ('dilation', dilation, 1)):
        check_pair(name, pair, least)
    out = conv_output_size(size, weight_shape[2:], stride, padding, dilation)
    require(
        min(out) > 0,
        f'the kernel {list(weight_shape[2:])} with padding {list(padding)} '
        f'and dilation {list(dilation)} does not fit into the input '
        f'{list(size)}')
    return out


def empty_image(like: Tensor, shape: tuple, dtype: torch.dtype) -> Tensor:
    """Channels-last memory on the device of ``like``."""
    return torch.empty(
        shape,
        dtype=dtype,
        device=like.device,
        memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """Canonical channels-last strides, also for 1x1 maps; or ``x`` itself."""
    out = empty_image(x, x.shape, x.dtype)
    return x if x.stride() == out.stride() else out.copy_(x)


def per_channel(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)
