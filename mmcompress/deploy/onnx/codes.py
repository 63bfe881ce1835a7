"""What ONNX can say of a quantizer: uint8 activations, int8 weights."""
from typing import NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.quantization.lsq import LSQ
from mmcompress.quantization.observed import Observed
from mmcompress.quantization.quantizer import Quantizer
from .operators import UINT8_MAX, quantize


class NoForm(ValueError):
    """Why ONNX has no integers for a quantizer, in words."""


class Scales(NamedTuple):
    """Uniform scales of activations, whose least code is 0.

    Attributes:
        scale (Tensor): Positive, shape (n, ).
        zero_point (Tensor): Codes of 0, between 0 and 255, shape (n, ).
        high (int): The largest code.
        axis (int | None): Of the values that the scales go with; None: there
            is one.
    """
    scale: Tensor
    zero_point: Tensor
    high: int
    axis: int | None


class Affine(nn.Module):
    """Quantizes to uint8 and back, as one operator.

    Args:
        scale (float | Tensor): Positive, one number.
        zero_point (int | Tensor): Code of 0, one number.
        high (int): The largest code.
    """

    def __init__(self, scale: float | Tensor, zero_point: int | Tensor,
                 high: int) -> None:
        super().__init__()
        self.register_buffer('scale', torch.tensor(float(scale)))
        self.register_buffer('zero_point',
                             torch.tensor(int(zero_point), dtype=torch.uint8))
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        """Quantize, any shape."""
        return quantize(x.float(), self.scale, self.zero_point, self.high)


def scales_of(quantizer: Quantizer) -> Scales:
    """The scales of a quantizer of activations.

    Raises:
        NoForm: If its codes are not those of uniform scales that are the same
            for all inputs, with an integer for 0, of 8 bits.
    """
    grid = quantizer.grid()
    if quantizer.stateful and not quantizer.is_initialized:
        # it has seen zeros only, as the first values of a DETR are
        scale, zero = torch.ones(1), torch.zeros(1)
    elif grid is not None and (grid.offset, grid.dynamic_clip) == (None, ) * 2:
        scale, zero = grid.scale, torch.tensor([float(grid.zero_point)])
    elif isinstance(quantizer, Observed) or (isinstance(quantizer, LSQ)
                                             and quantizer.beta is None):
        scale, zero = quantizer.scale, quantizer.zero_point
        if zero is None:
            zero = torch.zeros_like(scale)
    else:
        raise NoForm(f'{type(quantizer).__name__} has no uniform scale that '
                     'is the same for all inputs, with an integer for 0')
    zero = zero.detach().round() - quantizer.low
    if zero.min() < 0 or zero.max() > UINT8_MAX:
        raise NoForm(f'its codes of 0 are {zero.min():.0f} to '
                     f'{zero.max():.0f} above its least code, beyond what 8 '
                     'bits hold')
    one = scale.numel() == 1
    return Scales(scale.detach().float().flatten(), zero,
                  quantizer.high - quantizer.low,
                  None if one else quantizer.axis)


class WeightCodes(NamedTuple):
    """Integers of a weight, symmetric.

    Attributes:
        codes (Tensor): int8, shape of the weight.
        scale (Tensor): float32, shape (output channels, ).
    """
    codes: Tensor
    scale: Tensor


@torch.no_grad()
def weight_codes(quantizer: Quantizer, weight: Tensor,
                 axis: int) -> WeightCodes:
    """Symmetric integers of a weight.

    Levels that lie around 0 without being multiples of the scale, as those of
    DoReFa, are odd multiples of half of it.

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
    # a channel of zeros has scale 0
    unit = torch.where(scale == 0, 1, scale)
    levels = values + torch.as_tensor(found.offset).double() / unit
    parts = next((n for n in (1, 2) if _are_integers(n * levels)), None)
    if parts is None:
        raise NoForm(f'the levels of {type(quantizer).__name__} are not '
                     'multiples of a scale')
    codes, scale = (parts * levels).round(), scale / parts
    info = torch.iinfo(torch.int8)
    if codes.min() < info.min or codes.max() > info.max:
        raise NoForm(f'the levels of {type(quantizer).__name__}, as multiples '
                     f'of a scale, are {codes.min():.0f} to '
                     f"{codes.max():.0f}, which 8 bits don't hold")
    if scale.numel() > 1 and scale.numel() != weight.shape[axis]:
        raise NoForm(f'there are {scale.numel()} scales, not one for each of '
                     f'{weight.shape[axis]} output channels')
    return WeightCodes(
        codes.to(torch.int8),
        scale.float().reshape(-1).expand(weight.shape[axis]).contiguous())


def _are_integers(levels: Tensor) -> bool:
    return bool((levels - levels.round()).abs().max() < 1e-4)
