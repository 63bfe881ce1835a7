"""What the operators check of their arguments, and in which words.

The references and the shape functions call these; ``ops/csrc/arguments.h``
says the same for the kernels.
"""
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


def empty_image(like: Tensor, shape: tuple, dtype: torch.dtype) -> Tensor:
    """Channels-last memory on the device of ``like``."""
    return torch.empty(
        shape,
        dtype=dtype,
        device=like.device,
        memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """Copy with canonical channels-last strides, also for 1x1 maps."""
    return empty_image(x, x.shape, x.dtype).copy_(x)


def per_channel(vector: Tensor) -> Tensor:
    return vector.view(1, -1, 1, 1)
