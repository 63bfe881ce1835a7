"""Fold the norm around a 1-bit layer into its scale, shift and thresholds."""
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.binary.layers.base import InferenceRule


def _gain_and_shift(bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Gain and shift of ``(x - mean) * gain + shift``, in float64."""
    if bn.running_mean is None:
        raise ValueError('a norm layer without running statistics (such as '
                         'track_running_stats=False) can not be folded')
    gain = torch.rsqrt(bn.running_var.double() + bn.eps)
    if bn.weight is None:
        return gain, torch.zeros_like(gain)
    return gain * bn.weight.double(), bn.bias.double()


@torch.no_grad()
def fold_affine(rule: InferenceRule,
                bn: _BatchNorm | None) -> tuple[Tensor, Tensor]:
    """Fold what follows the count ``k``: ``bn(y) = scale * k + shift``.

    With gain ``g = gamma / sqrt(var + eps)``: ``scale = g * alpha``, ``shift =
    beta + g * (bias - mean)``. Computed in float64 and rounded once.

    Args:
        rule (InferenceRule): Of a layer with ``C_out`` outputs.
        bn (_BatchNorm, optional): Applied to the layer's output in eval mode.

    Returns:
        tuple[Tensor, Tensor]: Scale and shift, shape (C_out, ), in the dtype
        of ``rule.alpha``.

    Raises:
        ValueError: If the norm has no running statistics.
    """
    alpha = rule.alpha
    bias = torch.zeros_like(alpha) if rule.bias is None else rule.bias
    if bn is None:
        return alpha, bias
    gain, beta = _gain_and_shift(bn)
    scale = gain * alpha.double()
    shift = beta + gain * (bias.double() - bn.running_mean.double())
    return scale.to(alpha.dtype), shift.to(alpha.dtype)


@torch.no_grad()
def fold_threshold(bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Fold a norm in front of a sign into a comparison.

    ``bn(x) > 0`` becomes ``x > threshold``, and ``x < threshold`` where the
    gain is negative, with ``threshold = mean - beta * sqrt(var + eps) /
    gamma``. Where gamma is 0 the bit is constant, 1 if beta is positive: the
    threshold is infinite then. Computed in float64 and rounded once.

    Args:
        bn (_BatchNorm): In eval mode.

    Returns:
        tuple[Tensor, Tensor]: Threshold, shape (C, ), in the dtype of the
        norm's statistics, and flip, bool: where the comparison is ``<``.

    Raises:
        ValueError: If the norm has no running statistics.
    """
    gain, beta = _gain_and_shift(bn)
    threshold = bn.running_mean.double() - beta / gain
    constant = torch.where(beta > 0, -torch.inf, torch.inf)
    threshold = torch.where(gain == 0, constant.to(threshold), threshold)
    return threshold.to(bn.running_mean.dtype), gain < 0
