"""The integer operators on oneDNN, which PyTorch brings along.

It is exact where the processor adds four products of 8 bits without
saturation (VNNI); :mod:`mmcompress.ops.engines` finds that out.

- Unpadded 1x1 convolutions run as linear layers. oneDNN's convolution is at
  most as fast: four times slower with a zero point, slower than float32 with
  a residual, and up to 300 times slower for an input whose shape is not the
  one that its weight was arranged for.
- A residual is added afterwards: oneDNN adds into the residual's own memory,
  which costs a copy, and takes no ReLU6 after it.
- Its requantization multiplies by the reciprocal, so it serves
  ``integer_conv2d_codes`` only.
- Activations are unsigned: signed ones take a path that is thousands of times
  slower.
"""
import threading
from functools import wraps
from typing import Callable

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from . import library
from .arguments import empty_image, require
from .integer import (fake_integer_conv2d, fake_integer_conv2d_codes,
                      fake_integer_linear)
from .integer_blob import check_codes, read_weight

# oneDNN's weights can neither be copied nor saved, so they are kept here, for
# each blob by the input's shape; a detector's head sees five shapes per image
_PACKED = WeakTensorKeyDictionary()
_MOST_SHAPES = 16
_LOCK = threading.Lock()
_MOST_CALLS = 4096

# not public, so a later PyTorch may lack them
_NEEDED = ('qconv_prepack', 'qconv2d_pointwise', 'qlinear_prepack',
           'qlinear_pointwise')

_ACTIVATIONS = {
    '': ('none', []),
    'relu': ('relu', []),
    'relu6': ('hardtanh', [0., 6.])
}
# scale, zero point and dtype of a result that is not requantized
_FLOAT = (1., 0, torch.float32)


def missing() -> str:
    """Say what this build of PyTorch lacks, empty if nothing."""
    if not torch.backends.mkldnn.is_available():
        return 'PyTorch was built without oneDNN'
    for name in _NEEDED:
        if not hasattr(torch.ops.onednn, name):
            return (f'torch.ops.onednn.{name} is not in PyTorch '
                    f'{torch.__version__}')
    return ''


def _prepack(codes: Tensor, weight_shape: list[int], groups: int, bits: int,
             high: int) -> Tensor:
    weight = read_weight(codes, weight_shape, groups, bits, high)
    return weight.to(torch.int8).view(torch.uint8)


def _fake_prepack(codes: Tensor, weight_shape: list[int], groups: int,
                  bits: int, high: int) -> Tensor:
    check_codes(codes, weight_shape, groups, bits, high)
    return codes.new_empty(weight_shape)


def _packed(blob: Tensor, weight_shape: list[int], key: object,
            prepack: Callable) -> tuple[Tensor, Tensor]:
    """oneDNN's weights for this key, and zero points of the outputs."""
    if list(blob.shape) != list(weight_shape):
        raise ValueError(
            "blob was not made by integer_prepack of the engine 'onednn' for "
            f'weight_shape {list(weight_shape)}')
    key = (key, 0 if blob.is_inference() else blob._version)
    with _LOCK:
        of_blob = _PACKED.setdefault(blob, {})
        # the latest is last
        found = of_blob.pop(key, None)
        if found is None:
            zeros = torch.zeros(len(blob), dtype=torch.int32)
            found = prepack(blob.view(torch.int8)), zeros
        of_blob[key] = found
        if len(of_blob) > _MOST_SHAPES:
            del of_blob[next(iter(of_blob))]
    return found


def _definition(blob: Tensor, weight_shape: list[int], groups: int) -> Tensor:
    """The blob of the definition, for convolutions that oneDNN gets wrong."""
    weight, _ = _packed(
        blob, weight_shape,
        'definition', lambda _: library.reference.integer_prepack(
            blob.flatten(), weight_shape, groups, 8, 255))
    return weight


def _pixels_by_channels(x: Tensor, blob: Tensor, input_scale: Tensor,
                        scale: Tensor, bias: Tensor | None,
                        weight_shape: list[int], zero_point: int,
                        output: tuple, act: str) -> Tensor:
    """Linear layer: x is (pixels, C)."""
    # numbers of regions and tokens vary from image to image
    rows = 1 << (len(x) - 1).bit_length()
    weight, zeros = _packed(
        blob, weight_shape, rows, lambda w: torch.ops.onednn.qlinear_prepack(
            w.flatten(1), [rows, x.shape[1]]))
    name, limits = _ACTIVATIONS[act]
    return torch.ops.onednn.qlinear_pointwise(x, input_scale.item(),
                                              zero_point, weight, scale, zeros,
                                              bias, *output, name, limits, '')


def _suits(x: Tensor, weight_shape: list[int], geometry: tuple,
           zero_point: int) -> bool:
    """Whether oneDNN convolves so without fault."""
    _, padding, dilation, groups = geometry
    outputs, channels, *kernel = weight_shape
    # where all products of an output lie outside of the image, it ends the
    # process or miscounts
    if any(p > d * (k - 1) or size < d
           for size, p, d, k in zip(x.shape[2:], padding, dilation, kernel)):
        return False
    if groups > 1 and zero_point:
        return False
    # it miscounts some filters of one channel, unless they are depthwise
    return channels > 1 or outputs == groups > 1


def _convolve(x: Tensor, blob: Tensor, input_scale: Tensor, scale: Tensor,
              bias: Tensor | None, weight_shape: list[int], geometry: tuple,
              zero_point: int, output: tuple, act: str) -> Tensor:
    stride, padding, dilation, groups = geometry
    if (*weight_shape[2:], *padding, groups) == (1, 1, 0, 0, 1):
        x = x[:, :, ::stride[0], ::stride[1]].permute(0, 2, 3, 1)
        y = _pixels_by_channels(
            x.reshape(-1, x.shape[3]), blob, input_scale, scale, bias,
            weight_shape, zero_point, output, act)
        return y.view(*x.shape[:3], -1).permute(0, 3, 1, 2)
    x = x.contiguous(memory_format=torch.channels_last)
    shape = list(x.shape)
    key = (*shape, zero_point, *stride, *padding, *dilation)
    weight, zeros = _packed(
        blob, weight_shape, key, lambda w: torch.ops.onednn.qconv_prepack(
            w, torch.ones_like(scale), 1., zero_point, *geometry, shape))
    name, limits = _ACTIVATIONS[act]
    return torch.ops.onednn.qconv2d_pointwise(x, input_scale.item(),
                                              zero_point, weight, scale, zeros,
                                              bias, *geometry, *output, name,
                                              limits, '')


def _codes(x: Tensor, input_scale: Tensor, grid: list[int],
           image: bool) -> Tensor:
    if x.dtype == torch.uint8:
        return x
    return library.operators.quantize_codes(x, input_scale, grid, image)


def _image(y: Tensor) -> Tensor:
    """Channels-last strides, also where a dimension has one element."""
    _, channels, height, width = y.shape
    row = width * channels
    if y.stride() == (height * row, 1, row, channels):
        return y
    return empty_image(y, y.shape, y.dtype).copy_(y)


def _conv2d(x: Tensor,
            blob: Tensor,
            input_scale: Tensor,
            scale: Tensor,
            bias: Tensor | None,
            residual: Tensor | None,
            next_scale: Tensor | None,
            weight_shape: list[int],
            stride: list[int],
            padding: list[int],
            dilation: list[int],
            groups: int,
            bits: int,
            grid: list[int],
            act: str = '',
            next_grid: list[int] | None = None) -> tuple[Tensor, Tensor]:
    if not _suits(x, weight_shape,
                  (stride, padding, dilation, groups), grid[0]):
        return library.reference.integer_conv2d(
            x, _definition(blob, weight_shape, groups), input_scale, scale,
            bias, residual, next_scale, weight_shape, stride, padding,
            dilation, groups, 8, grid, act, next_grid)
    y = _convolve(
        _codes(x, input_scale, grid, True), blob, input_scale, scale, bias,
        weight_shape, (stride, padding, dilation, groups), grid[0], _FLOAT,
        act if residual is None else '')
    if residual is not None:
        y.add_(residual)
        if act:
            y.clamp_(0, 6 if act == 'relu6' else None)
    y = _image(y)
    if next_scale is None:
        return y, x.new_empty(0, dtype=torch.uint8)
    return y, library.operators.quantize_codes(y, next_scale, next_grid, True)


def _conv2d_codes(x: Tensor, blob: Tensor, input_scale: Tensor, scale: Tensor,
                  bias: Tensor | None, next_scale: Tensor,
                  weight_shape: list[int], stride: list[int],
                  padding: list[int], dilation: list[int], groups: int,
                  bits: int, grid: list[int], act: str,
                  next_grid: list[int]) -> Tensor:
    if not _suits(x, weight_shape,
                  (stride, padding, dilation, groups), grid[0]):
        return library.reference.integer_conv2d_codes(
            x, _definition(blob, weight_shape, groups), input_scale, scale,
            bias, next_scale, weight_shape, stride, padding, dilation, groups,
            8, grid, act, next_grid)
    zero_point, low, high = next_grid
    codes = _convolve(
        _codes(x, input_scale, grid, True), blob, input_scale, scale, bias,
        weight_shape, (stride, padding, dilation, groups), grid[0],
        (next_scale.item(), zero_point, torch.uint8), act)
    if (low, high) != (0, 255):
        codes = codes.clamp_(low, high)
    return _image(codes)


def _linear(x: Tensor, blob: Tensor, input_scale: Tensor, scale: Tensor,
            bias: Tensor | None, weight_shape: list[int], bits: int,
            grid: list[int]) -> Tensor:
    rows = _codes(x, input_scale, grid, False).reshape(-1, x.shape[-1])
    y = _pixels_by_channels(rows, blob, input_scale, scale, bias, weight_shape,
                            grid[0], _FLOAT, '')
    return y.view(*x.shape[:-1], -1)


def _describe(argument: object) -> object:
    """What a check looks at, hashable."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.dtype, argument.device
    return tuple(argument) if isinstance(argument, list) else argument


def _checked(function: Callable, fake: Callable) -> Callable:
    """Check arguments as the fake does, but each kind of call once.

    It takes as long as a small layer. Empty results are the fake's.
    """
    passed: set[tuple] = set()

    @wraps(function)
    def wrapper(x: Tensor, blob: Tensor, *args):
        call = tuple(map(_describe, (x, blob, *args)))
        if call not in passed:
            result = fake(x, blob, *args)
            require(x.device.type == 'cpu',
                    f'oneDNN computes on the CPU, x is on {x.device}')
            first = result[0] if isinstance(result, tuple) else result
            if not first.numel():
                return result
            if len(passed) == _MOST_CALLS:
                passed.clear()
            passed.add(call)
        return function(x, blob, *args)

    return wrapper


# by name, each with its fake
OPERATORS = dict(
    integer_prepack=(_prepack, _fake_prepack),
    **{
        f'integer_{name}': (_checked(function, fake), fake)
        for name, function, fake in (('conv2d', _conv2d, fake_integer_conv2d),
                                     ('conv2d_codes', _conv2d_codes,
                                      fake_integer_conv2d_codes),
                                     ('linear', _linear, fake_integer_linear))
    })
