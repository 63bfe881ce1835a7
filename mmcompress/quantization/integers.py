"""Integer products of quantized operands: which there are, and their rules."""
from torch import Tensor

from mmcompress.lowbit import InferenceRule, OperandBits
from .codes import Codes
from .quantizer import Quantizer

# of a stored weight
_WIDEST = 8


def _odd(codes: Codes, bits: int) -> tuple[Codes, int] | None:
    """Codes of levels around 0 of which none is 0, as odd numbers.

    DoReFa's ``(2 c - n) / n`` for c from 0 to n.
    """
    doubled = 2 * codes.offset / codes.scale
    if not (doubled - doubled.round()).abs().le(1e-3).all():
        return None
    values = 2 * codes.values + doubled.round().int()
    return Codes(values, codes.scale / 2), bits + 1


def _around_zero(quantizer: Quantizer,
                 codes: Codes) -> tuple[Codes, int] | None:
    """Integers of a weight, 0 being that of 0, and their bits."""
    if not quantizer.is_symmetric:
        return None
    bits = quantizer.bits
    if codes.offset == 0:
        return codes, bits
    return _odd(codes, bits) if bits < _WIDEST else None


def _range_of(quantizer: Quantizer, bits: int) -> tuple[int, int]:
    if bits > quantizer.bits:
        # odd ones
        return -quantizer.high, quantizer.high
    return quantizer.low, quantizer.high


def _add(bias: Tensor | None, more: Tensor) -> Tensor:
    return more if bias is None else bias + more


def integer_rule(weight_quant: Quantizer, weight: Codes,
                 input_quant: Quantizer, bias: Tensor | None,
                 **geometry) -> InferenceRule | None:
    """What a layer of quantized operands computes, by integers.

    The codes of its weight have to be symmetric around 0, those of its input
    have one scale. A real offset of the input adds a constant to each output,
    unless there are taps outside of the image.

    Args:
        weight_quant (Quantizer): Of the weight.
        weight (Codes): Its integers, shape (C_out, C_in / groups, ...).
        input_quant (Quantizer): Of the input.
        bias (Tensor | None): Shape (C_out, ).
        **geometry: Of a convolution, see
            :class:`~mmcompress.lowbit.InferenceRule`; none of a linear layer.

    Returns:
        InferenceRule | None: None where there is none.
    """
    found = _around_zero(weight_quant, weight)
    signs, grid = input_quant.signs(), input_quant.grid()
    if found is None or (signs is None and grid is None):
        return None
    codes, bits = found
    size = len(codes.values)
    values = codes.values.reshape(*codes.values.shape,
                                  *(1, ) * (4 - codes.values.dim()))
    scale = codes.scale.reshape(-1).float().expand(size)
    operands = OperandBits(bits, (input_quant.bits, ))
    rule = dict(codes=values, scale=scale, **geometry)
    offset = signs.offset if signs else grid.offset
    if geometry and (offset is not None
                     or grid is not None and grid.dynamic_clip is not None):
        return None
    if offset is not None:
        sums = values.flatten(1).sum(1)
        bias = _add(None if bias is None else bias.float(),
                    offset.float() * scale * sums)
    rule['bias'] = None if bias is None else bias.float()
    if grid is not None:
        # a bit holds 0 and 1, not the -1 and 1 of signs
        operands = operands._replace(weight=max(bits, 2))
        return InferenceRule(
            grid=grid,
            bits=operands,
            code_range=_range_of(weight_quant, bits),
            **rule)
    if bits > 1:
        return None
    channels = values.shape[1] * geometry.get('groups', 1)
    rule['scale'] = scale * signs.scale.float()
    return InferenceRule(
        threshold=signs.threshold.float().expand(channels),
        bits=operands,
        **rule)
