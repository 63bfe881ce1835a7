"""What ONNX can say of a quantizer: uint8 activations, int8 weights."""
from typing import NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.quantization.lsq import LSQ
from mmcompress.quantization.observed import Observed
from mmcompress.quantization.quantizer import Quantizer
from .operators import UINT8_MAX, quantize


_LARGEST = 127


class NoForm(ValueError):
    """Why ONNX has no integers for a quantizer, in words."""


class Affine(nn.Module):
    """Quantizes to uint8 and back, as one operator.

    Args:
        scale (Tensor): Positive, shape (n, ).
        zero_point (Tensor): Codes of 0, integers, shape (n, ).
        low (int): The least code.
        high (int): The largest code.
        axis (int | None): Of the input that the scales go with; None: there
            is one.

    Raises:
        NoForm: If a zero point is no uint8 once the least code is 0.
    """

    def __init__(self,
                 scale: Tensor,
                 zero_point: Tensor,
                 low: int,
                 high: int,
                 axis: int | None = None) -> None:
        super().__init__()
        zero = zero_point.detach().round() - low
        if zero.min() < 0 or zero.max() > UINT8_MAX:
            raise NoForm(f'the code of 0 is {zero_point.tolist()}, beyond what'
                         ' 8 bits hold')
        shape = () if axis is None else (-1, )
        self.register_buffer('scale',
                             scale.detach().float().reshape(shape).clone())
        self.register_buffer('zero_point', zero.to(torch.uint8).reshape(shape))
        self.high = high - low
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        """Quantize, any shape that has the axis."""
        axis = 0 if self.axis is None else self.axis % x.dim()
        return quantize(x.float(), self.scale, self.zero_point, self.high,
                        axis)


def affine(quantizer: Quantizer) -> Affine:
    """The same of a quantizer of activations.

    Raises:
        NoForm: If its codes are not those of uniform scales that are the same
            for all inputs, with an integer for 0.
    """
    if quantizer.stateful and not quantizer.is_initialized:
        # it has seen zeros only, as the first queries of a DETR are
        one = torch.ones(1)
        return Affine(one, 0 * one, quantizer.low, quantizer.high)
    grid = quantizer.grid()
    if grid is not None:
        return Affine(
            grid.scale.reshape(1), torch.tensor([grid.zero_point]), grid.low,
            grid.high)
    is_uniform = isinstance(quantizer, Observed) or (
        isinstance(quantizer, LSQ) and quantizer.beta is None)
    if not is_uniform:
        raise NoForm(f'{type(quantizer).__name__} has no uniform scale that '
                     'is the same for all inputs, with an integer for 0')
    scale, zero = quantizer.scale, quantizer.zero_point
    if zero is None:
        zero = torch.zeros_like(scale)
    return Affine(scale, zero, quantizer.low, quantizer.high, quantizer.axis)


class WeightCodes(NamedTuple):
    """Integers of a weight, symmetric.

    Attributes:
        codes (Tensor): int8, shape of the weight.
        scale (Tensor): float32, shape (size of the axis, ).
    """
    codes: Tensor
    scale: Tensor


@torch.no_grad()
def weight_codes(quantizer: Quantizer, weight: Tensor,
                 axis: int) -> WeightCodes:
    """Symmetric integers of a weight.

    Levels that lie around 0 without being a multiple of the scale, as
    DoReFa's, are odd multiples of half of it.

    Args:
        quantizer (Quantizer): Of the weight.
        weight (Tensor): Any shape.
        axis (int): Of output channels.

    Raises:
        NoForm: If 8 bits don't hold them.
    """
    found = quantizer.quantize_int(weight)
    values = (found.values - found.zero_point).double()
    scale = found.scale.double()
    shift = torch.as_tensor(found.offset, dtype=torch.float64) / scale
    for parts in (1, 2):
        shifted = parts * (values + shift)
        codes = shifted.round()
        if (codes - shifted).abs().max() < 1e-4:
            break
    else:
        raise NoForm('its levels are not multiples of a scale')
    scale = scale / parts
    # -128 is a code of 8 bits
    if codes.max() > _LARGEST or codes.min() < -_LARGEST - 1:
        raise NoForm('its levels, as multiples of a scale, are '
                     f'{codes.min():.0f} to {codes.max():.0f}, which 8 bits '
                     "don't hold")
    if scale.numel() > 1 and scale.numel() != weight.shape[axis]:
        raise NoForm(f'it has {scale.numel()} scales, not one for each of '
                     f'{weight.shape[axis]} output channels')
    return WeightCodes(
        codes.to(torch.int8),
        scale.float().reshape(-1).expand(weight.shape[axis]).contiguous())
