"""Fold what surrounds a 1-bit layer into scales, shifts and thresholds."""
import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.binary.layers import RSign
from mmcompress.lowbit import InferenceRule
from mmcompress.quantization.norms import QuantOutput


def has_statistics(module: nn.Module) -> bool:
    """Whether a module is a norm that is a constant map in eval mode."""
    # what rounds its output is no gain and shift
    return (isinstance(module, _BatchNorm) and module.track_running_stats
            and not isinstance(module, QuantOutput))


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
        of ``rule.scale``.

    Raises:
        ValueError: If the norm has no running statistics.
    """
    alpha = rule.scale
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


def as_float(vector: Tensor) -> Tensor:
    return vector.detach().float().flatten().clone()


def _shifted_norm(norm: _BatchNorm, threshold: Tensor) -> _BatchNorm:
    """The norm minus a threshold."""
    shifted = type(norm)(norm.num_features, norm.eps).to(threshold).eval()
    shifted.load_state_dict(norm.state_dict(), strict=False)
    shifted.bias.data -= threshold
    return shifted


def through_sign(threshold: Tensor, flip: Tensor | None) -> Tensor:
    """Threshold on ``y`` that gives the bits of one on ``sign(y)``.

    Args:
        threshold (Tensor): Shape (C, ).
        flip (Tensor | None): bool, shape (C, ); see
            :class:`mmcompress.deploy.PackedLayer`.

    Returns:
        Tensor: Shape (C, ): 0 where the sign decides, else infinite.
    """
    above, below = threshold >= 1, threshold < -1
    if flip is not None:
        # neither of the signs is less than -1, both are less than 2
        above = torch.where(flip, threshold > 1, above)
        below = torch.where(flip, threshold <= -1, below)
    decided = torch.where(above, torch.inf, -torch.inf)
    return torch.where(above | below, decided, 0.0).to(threshold)


def input_bits(before: list[nn.Module],
               rule: InferenceRule) -> tuple[Tensor, Tensor | None]:
    """Threshold and flip of a layer's input, through what stands before it.

    Args:
        before (list[nn.Module]): Shifts and norms, in the order of execution.
        rule (InferenceRule): The layer's, of a 1-bit input.

    Returns:
        tuple[Tensor, Tensor | None]: See
        :class:`mmcompress.deploy.PackedLayer`.
    """
    threshold, flip = rule.threshold, None
    for module in reversed(before):
        if isinstance(module, RSign):
            threshold = through_sign(threshold, flip)
        if not has_statistics(module):
            threshold = threshold - module.bias.detach().flatten()
            continue
        threshold, negative = fold_threshold(_shifted_norm(module, threshold))
        flip = negative if flip is None else negative ^ flip
    return as_float(threshold), flip


def through_relu(threshold: Tensor, flip: Tensor | None) -> Tensor:
    """Threshold on ``y`` that gives the bits of one on ``relu(y)``.

    Where ``relu(y) > threshold`` always holds, or ``relu(y) < threshold``
    never does, the new one is minus infinity.
    """
    can_decide = threshold >= 0
    if flip is not None:
        can_decide &= ~flip | (threshold > 0)
    return torch.where(can_decide, threshold, -torch.inf)


def slope_of(act: nn.Module | None, channels: int) -> Tensor | None:
    if act is None:
        return None
    if isinstance(act, nn.ReLU):
        return torch.zeros(channels)
    return as_float(act.weight).expand(channels).clone()
