"""The 1-bit convolution of Bi-Real Net: signs times their mean magnitude."""
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.registry import MODELS
from .base import BinaryConv2d
from .sign import binary_sign, mean_magnitude


class _BiRealWeight(torch.autograd.Function):

    @staticmethod
    def forward(ctx, weight: Tensor, zero_as: str) -> Tensor:
        ctx.save_for_backward(weight.abs() <= 1)
        return mean_magnitude(weight) * binary_sign(weight, zero_as)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        inside, = ctx.saved_tensors
        return torch.where(inside, grad, 0), None


def bireal_weight(weight: Tensor, zero_as: str = 'neg') -> Tensor:
    """Binarise a weight: ``mean(|weight|) * sign(weight)``.

    The mean is that of each output channel. The gradient is passed unchanged
    where ``|weight| <= 1`` and is 0 elsewhere, as in the official code: it
    has no factor ``mean(|weight|)``.

    Args:
        weight (Tensor): Shape (C_out, C_in, k, k).
        zero_as (str): As in :func:`binary_sign`.

    Returns:
        Tensor: Shape (C_out, C_in, k, k).
    """
    return _BiRealWeight.apply(weight, zero_as)


@MODELS.register_module()
class BiRealConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of Bi-Real Net (Liu et al., ECCV 2018,
    arXiv:1811.01335).

    ``y = conv2d(sign(x), mean(|weight|) * sign(weight)) + bias``, the mean
    over each output channel. The gradient of ``sign(x)`` is
    :func:`bireal_sign`'s, that of ``weight`` is in :func:`bireal_weight`.

    Arguments, state dict and checkpoints are those of :class:`BinaryConv2d`.
    The official networks have no bias.

    Differs from the official code: zeros become -1 (``zero_as``); the initial
    weight is that of :class:`torch.nn.Conv2d`. The official one, all positive,
    is ``init_cfg=dict(type='Uniform', layer='BiRealConv2d', b=0.001)``.
    """

    def binarize_weight(self) -> Tensor:
        """See :func:`bireal_weight`."""
        return bireal_weight(self.at_least_float32(self.weight), self.zero_as)

    def weight_scale(self) -> Tensor:
        """``mean(|weight|)``."""
        return mean_magnitude(self.at_least_float32(self.weight)).flatten()
