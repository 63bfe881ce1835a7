"""Products of integers with all around them: convolutions, linear layers."""
import torch
import torch.nn.functional as F
from torch import Tensor

from mmcompress.pixels import as_pixels, from_pixels
from . import library
from .arguments import (channels_last, check_geometry, check_image,
                        check_tensor, check_vectors, check_weight_shape,
                        empty_image, per_channel, require)
from .integer_blob import weight_values
from .quantize import (check_grid, check_scale, quantize_codes_reference,
                       round_codes)

ACTIVATIONS = ('', 'relu', 'relu6')


def _check_input(x: Tensor, grid: list[int], channels: int) -> None:
    if x.dtype == torch.float32:
        check_image('x', x)
    else:
        require(x.dtype == torch.uint8,
                f'x must be uint8 codes or float32, it is {x.dtype}')
        require(x.dim() == 4,
                f'x must be (N, C, H, W), it has shape {tuple(x.shape)}')
    require(x.shape[1] == channels,
            f'x has {x.shape[1]} channels, the weight wants {channels}')
    check_grid('grid', grid)


def _output_shape(x: Tensor, blob: Tensor, input_scale: Tensor, scale: Tensor,
                  bias: Tensor | None, weight_shape: list[int],
                  stride: list[int], padding: list[int], dilation: list[int],
                  groups: int, grid: list[int], act: str) -> list[int]:
    """Check the arguments that all integer convolutions have."""
    check_weight_shape(weight_shape, groups)
    _check_input(x, grid, weight_shape[1] * groups)
    check_tensor('blob', blob, torch.uint8, x, None)
    check_scale('input_scale', input_scale, x)
    check_vectors(x, weight_shape[0], scale=scale, bias=bias)
    require(act in ACTIVATIONS,
            f"act must be '', 'relu' or 'relu6', it is {act!r}")
    out = check_geometry(x.shape[2:], weight_shape, stride, padding, dilation)
    return [x.shape[0], weight_shape[0], *out]


def _convolve(x: Tensor, weight: Tensor, geometry: tuple) -> Tensor:
    """Convolution of integers that float32, or float64, sums up exactly."""
    stride, padding, dilation, groups = geometry
    moves = (*weight.shape[2:], *stride, *padding, groups)
    if moves == (1, 1, 1, 1, 0, 0, 1):
        y = F.linear(x.permute(0, 2, 3, 1), weight.flatten(1))
        return y.permute(0, 3, 1, 2)
    if weight.shape[1] == 1:
        # oneDNN miscounts some convolutions of one channel in channels-last
        # memory
        x = x.clone(memory_format=torch.contiguous_format)
    # half the mantissa is not enough
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return F.conv2d(x, weight, None, stride, padding, dilation, groups)


def _sums(codes: Tensor, blob: Tensor, weight_shape: list[int],
          geometry: tuple, bits: int, grid: list[int]) -> Tensor:
    """Dot products of codes, rounded to float32, shape (N, K, OH, OW)."""
    groups = geometry[3]
    zero_point, _, high = grid
    weight, num_parts = weight_values(blob, weight_shape, groups, bits, high)
    k = codes.float()
    if zero_point:
        k -= zero_point
    if num_parts == 1:
        return _convolve(k, weight, geometry)
    if num_parts == 0 or groups > 1:
        return _convolve(k.double(), weight.double(), geometry).float()
    size = -(-weight_shape[1] // num_parts)
    parts = zip(k.split(size, 1), weight.split(size, 1))
    return sum(_convolve(*part, geometry).double() for part in parts).float()


def _activate(y: Tensor, act: str) -> Tensor:
    """In place, as everything here that only this file sees."""
    if act:
        y.clamp_(0, 6 if act == 'relu6' else None)
    return y


def _values(x: Tensor, blob: Tensor, input_scale: Tensor, scale: Tensor,
            bias: Tensor | None, weight_shape: list[int], geometry: tuple,
            bits: int, grid: list[int]) -> Tensor:
    """Dot products times their scales, plus the bias."""
    if x.dtype == torch.float32:
        x = quantize_codes_reference(x, input_scale, grid)
    y = _sums(x, blob, weight_shape, geometry, bits, grid)
    # one rounding per line
    y *= input_scale
    y *= per_channel(scale)
    if bias is not None:
        y += per_channel(bias)
    return y


def integer_conv2d_reference(
        x: Tensor,
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
    """Definition of :func:`integer_conv2d` in plain PyTorch."""
    _, codes = fake_integer_conv2d(x, blob, input_scale, scale, bias, residual,
                                   next_scale, weight_shape, stride, padding,
                                   dilation, groups, bits, grid, act,
                                   next_grid)
    values = _values(x, blob, input_scale, scale, bias, weight_shape,
                     (stride, padding, dilation, groups), bits, grid)
    if residual is not None:
        values += residual
    y = channels_last(_activate(values, act))
    if next_scale is not None:
        codes = quantize_codes_reference(y, next_scale, next_grid, True)
    return y, codes


def fake_integer_conv2d(
        x: Tensor,
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
    """Shape of :func:`integer_conv2d`."""
    shape = _output_shape(x, blob, input_scale, scale, bias, weight_shape,
                          stride, padding, dilation, groups, grid, act)
    if residual is not None:
        check_tensor('residual', residual, torch.float32, x, tuple(shape))
    y = empty_image(x, shape, torch.float32)
    if next_scale is None:
        require(not next_grid, 'next_grid needs next_scale')
        return y, x.new_empty(0, dtype=torch.uint8)
    check_scale('next_scale', next_scale, x)
    check_grid('next_grid', next_grid)
    return y, empty_image(x, shape, torch.uint8)


def integer_conv2d_codes_reference(x: Tensor, blob: Tensor,
                                   input_scale: Tensor, scale: Tensor,
                                   bias: Tensor | None, next_scale: Tensor,
                                   weight_shape: list[int], stride: list[int],
                                   padding: list[int], dilation: list[int],
                                   groups: int, bits: int, grid: list[int],
                                   act: str, next_grid: list[int]) -> Tensor:
    """Definition of :func:`integer_conv2d_codes` in plain PyTorch."""
    fake_integer_conv2d_codes(x, blob, input_scale, scale, bias, next_scale,
                              weight_shape, stride, padding, dilation, groups,
                              bits, grid, act, next_grid)
    y = _values(x, blob, input_scale, scale, bias, weight_shape,
                (stride, padding, dilation, groups), bits, grid)
    zero_point, low, high = next_grid
    # added before it is rounded
    steps = _activate(y, act).mul_(next_scale.reciprocal()).add_(zero_point)
    return channels_last(round_codes(steps, [0, low, high]))


def fake_integer_conv2d_codes(x: Tensor, blob: Tensor, input_scale: Tensor,
                              scale: Tensor, bias: Tensor | None,
                              next_scale: Tensor, weight_shape: list[int],
                              stride: list[int], padding: list[int],
                              dilation: list[int], groups: int, bits: int,
                              grid: list[int], act: str,
                              next_grid: list[int]) -> Tensor:
    """Shape of :func:`integer_conv2d_codes`."""
    shape = _output_shape(x, blob, input_scale, scale, bias, weight_shape,
                          stride, padding, dilation, groups, grid, act)
    check_scale('next_scale', next_scale, x)
    check_grid('next_grid', next_grid)
    return empty_image(x, shape, torch.uint8)


def integer_linear_reference(x: Tensor, blob: Tensor, input_scale: Tensor,
                             scale: Tensor, bias: Tensor | None,
                             weight_shape: list[int], bits: int,
                             grid: list[int]) -> Tensor:
    """Definition of :func:`integer_linear` in plain PyTorch."""
    out = fake_integer_linear(x, blob, input_scale, scale, bias, weight_shape,
                              bits, grid)
    y = _values(
        as_pixels(x, True), blob, input_scale, scale, bias, weight_shape,
        ([1, 1], [0, 0], [1, 1], 1), bits, grid)
    y = from_pixels(y, x, True)
    return y if y.stride() == out.stride() else out.copy_(y)


def fake_integer_linear(x: Tensor, blob: Tensor, input_scale: Tensor,
                        scale: Tensor, bias: Tensor | None,
                        weight_shape: list[int], bits: int,
                        grid: list[int]) -> Tensor:
    """Shape of :func:`integer_linear`."""
    check_weight_shape(weight_shape, 1)
    require(
        list(weight_shape[2:]) == [1, 1],
        f'weight_shape must be [K, C, 1, 1], it is {list(weight_shape)}')
    require(x.dim() > 0, 'x must have a dimension of features')
    if x.numel():
        _check_input(as_pixels(x, True), grid, weight_shape[1])
    check_tensor('blob', blob, torch.uint8, x, None)
    check_scale('input_scale', input_scale, x)
    check_vectors(x, weight_shape[0], scale=scale, bias=bias)
    return torch.empty((*x.shape[:-1], weight_shape[0]), device=x.device)


def integer_conv2d(
    x: Tensor,
    blob: Tensor,
    input_scale: Tensor,
    scale: Tensor,
    weight_shape: list[int],
    grid: list[int],
    *,
    stride: list[int] = (1, 1),
    padding: list[int] = (0, 0),
    dilation: list[int] = (1, 1),
    groups: int = 1,
    bits: int = 8,
    bias: Tensor | None = None,
    residual: Tensor | None = None,
    act: str = '',
    next_scale: Tensor | None = None,
    next_grid: list[int] = ()
) -> tuple[Tensor, Tensor]:
    """Convolve integers, and what surrounds the convolution in a network.

    With the exact sum ``acc`` of (x - zero point) * w, per output channel,
    every operation rounded on its own in float32::

        y = (float(acc) * input_scale) * scale
        y = y + bias                      if given
        y = y + residual                  if given
        y = max(y, 0), min(y, 6)          by act

    Args:
        x (Tensor): Codes, uint8, shape (N, C, H, W), any strides,
            channels-last ones are the fastest; or float32, which
            :func:`quantize_codes` makes codes of first. Taps outside of the
            image count 0.
        blob (Tensor): Weights from :func:`integer_prepack`.
        input_scale (Tensor): float32, shape (1, ).
        scale (Tensor): float32, shape (K, ).
        weight_shape (list[int]): ``[K, C / groups, kh, kw]``.
        grid (list[int]): Zero point, lowest and highest code of the input.
        stride, padding, dilation (list[int]): Two numbers each.
        groups (int): Defaults to 1.
        bits (int): Of a stored weight: 2, 4 or 8.
        bias (Tensor | None): float32, shape (K, ).
        residual (Tensor | None): float32, shape (N, K, OH, OW).
        act (str): ``''``, ``'relu'`` or ``'relu6'``.
        next_scale (Tensor | None): float32, shape (1, ): the codes that the
            next layer makes of ``y`` are wanted, too.
        next_grid (list[int]): Their grid.

    Returns:
        tuple[Tensor, Tensor]: ``y``, float32, shape (N, K, OH, OW),
        channels-last memory; and its codes, uint8, of the same shape, or
        empty.
    """
    return library.operators.integer_conv2d(x, blob, input_scale, scale, bias,
                                            residual, next_scale, weight_shape,
                                            stride, padding, dilation, groups,
                                            bits, grid, act, next_grid)


def integer_conv2d_codes(x: Tensor,
                         blob: Tensor,
                         input_scale: Tensor,
                         scale: Tensor,
                         next_scale: Tensor,
                         weight_shape: list[int],
                         grid: list[int],
                         next_grid: list[int],
                         *,
                         stride: list[int] = (1, 1),
                         padding: list[int] = (0, 0),
                         dilation: list[int] = (1, 1),
                         groups: int = 1,
                         bits: int = 8,
                         bias: Tensor | None = None,
                         act: str = '') -> Tensor:
    """:func:`integer_conv2d` that keeps codes only.

    ``clamp(round(y * (1 / next_scale) + zero_point), low, high)``, the
    reciprocal rounded to float32. A tie may fall to the other side than by
    :func:`quantize_codes`, which divides.

    Args:
        x, blob, input_scale, scale, weight_shape, grid, stride, padding,
            dilation, groups, bits, bias, act: As in :func:`integer_conv2d`.
        next_scale (Tensor): float32, shape (1, ).
        next_grid (list[int]): Grid of the result.

    Returns:
        Tensor: uint8, shape (N, K, OH, OW), channels-last memory.
    """
    return library.operators.integer_conv2d_codes(x, blob, input_scale, scale,
                                                  bias, next_scale,
                                                  weight_shape, stride,
                                                  padding, dilation, groups,
                                                  bits, grid, act, next_grid)


def integer_linear(x: Tensor,
                   blob: Tensor,
                   input_scale: Tensor,
                   scale: Tensor,
                   weight_shape: list[int],
                   grid: list[int],
                   *,
                   bits: int = 8,
                   bias: Tensor | None = None) -> Tensor:
    """:func:`integer_conv2d` of features in the last dimension.

    Args:
        x (Tensor): Codes or float32, shape (..., C).
        blob, input_scale, scale, grid, bits, bias: As in
            :func:`integer_conv2d`.
        weight_shape (list[int]): ``[K, C, 1, 1]``.

    Returns:
        Tensor: float32, shape (..., K).
    """
    return library.operators.integer_linear(x, blob, input_scale, scale, bias,
                                            weight_shape, bits, grid)


_INPUT = ('Tensor x, Tensor blob, Tensor input_scale, Tensor scale, '
          'Tensor? bias, ')
_CONV = ('int[] weight_shape, int[2] stride, int[2] padding, '
         'int[2] dilation, int groups, int bits, int[] grid')
library.register(
    'integer_conv2d',
    f'({_INPUT}Tensor? residual, Tensor? next_scale, {_CONV}, '
    "str act='', int[] next_grid=[]) -> (Tensor, Tensor)",
    integer_conv2d_reference, fake_integer_conv2d)
library.register(
    'integer_conv2d_codes',
    f'({_INPUT}Tensor next_scale, {_CONV}, str act, int[] next_grid) '
    '-> Tensor', integer_conv2d_codes_reference, fake_integer_conv2d_codes)
library.register(
    'integer_linear',
    f'({_INPUT}int[] weight_shape, int bits, int[] grid) -> Tensor',
    integer_linear_reference, fake_integer_linear)
