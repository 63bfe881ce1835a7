"""The 1-bit layers of XNOR-Net: centred, clamped, scaled by their mean."""
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.registry import MODELS
from .base import BinaryConv2d, BinaryLinear
from .sign import binary_sign, clipped_sign, mean_magnitude


def xnor_latent(weight: Tensor) -> Tensor:
    """Subtract the mean over the input channels, then clamp to [-1, 1].

    Args:
        weight (Tensor): Shape (C_out, C_in, ...).

    Returns:
        Tensor: Same shape.
    """
    return (weight - weight.mean(dim=1, keepdim=True)).clamp(-1, 1)


class _XNORWeight(torch.autograd.Function):

    @staticmethod
    def forward(ctx, weight: Tensor, zero_as: str) -> Tensor:
        latent = xnor_latent(weight)
        signs, alpha = binary_sign(latent, zero_as), mean_magnitude(latent)
        ctx.save_for_backward(signs, alpha)
        return alpha * signs

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        signs, alpha = ctx.saved_tensors
        filters = tuple(range(1, grad.dim()))
        pull = signs * (signs * grad).mean(dim=filters, keepdim=True)
        factor = grad[0].numel() * (1 - 1 / grad.shape[1])
        return factor * (alpha * grad + pull), None


def xnor_weight(weight: Tensor, zero_as: str = 'neg') -> Tensor:
    """Binarise a weight: ``mean(|W|) * sign(W)``, ``W = xnor_latent(weight)``.

    The mean is that of each output channel. With ``G`` the gradient of the
    result and n weights per output channel, the gradient of the weight is
    defined as ``n * (1 - 1 / C_in) * (mean(|W|) * G + sign(W) * mean(sign(W) *
    G))``.

    Args:
        weight (Tensor): Shape (C_out, C_in, ...).
        zero_as (str): As in :func:`binary_sign`.

    Returns:
        Tensor: Same shape.
    """
    return _XNORWeight.apply(weight, zero_as)


class _XNORLayer(nn.Module):
    """What the layers share; stands before the 1-bit layer's class."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.weight.shape[1] < 2:
            raise ValueError(
                'XNOR-Net centres weights over the input channels of a group '
                '(in_channels / groups, or in_features), which leaves nothing '
                'of a single one')

    def before_step(self) -> None:
        """Let the optimizer start from the centred and clamped weight."""
        self.weight.copy_(self.latent_weight())

    def binarize_input(self, x: Tensor) -> Tensor:
        """``sign(x)``."""
        return clipped_sign(x, self.zero_as)

    def binarize_weight(self) -> Tensor:
        """See :func:`xnor_weight`."""
        return xnor_weight(self.at_least_float32(self.weight), self.zero_as)

    def latent_weight(self) -> Tensor:
        """W, the centred and clamped weight."""
        return xnor_latent(self.at_least_float32(self.weight))

    def weight_scale(self) -> Tensor:
        """``mean(|W|)``."""
        return mean_magnitude(self.latent_weight()).flatten()


@MODELS.register_module()
class XNORConv2d(_XNORLayer, BinaryConv2d, nn.Conv2d):
    """1-bit convolution of XNOR-Net (Rastegari et al., ECCV 2016,
    arXiv:1603.05279).

    ``y = conv2d(sign(x), mean(|W|) * sign(W)) + bias``, where W is the weight,
    centred and clamped, see :func:`xnor_latent`; its gradient is in
    :func:`xnor_weight`. The gradient of ``sign(x)`` is
    :func:`clipped_sign`'s. The scale map of the input in the paper is left
    out, as in both known implementations.

    Definition and gradient are those of the PyTorch port by jiecaoyu, which
    writes W into the weight in every forward, evaluation included. Here the
    forward leaves the weight alone, and the optimizer's step starts from W.
    So in training both are the same, and neither accumulated gradients nor
    recomputed activations centre a weight twice.

    Arguments, state dict and checkpoints are those of :class:`BinaryConv2d`.

    Differs from that port: zeros become -1 (``zero_as``).

    Raises:
        ValueError: If a group has one input channel.
    """


@MODELS.register_module()
class XNORLinear(_XNORLayer, BinaryLinear, nn.Linear):
    """1-bit linear layer of XNOR-Net, as :class:`XNORConv2d`.

    Arguments, state dict and checkpoints are those of :class:`BinaryLinear`.

    Raises:
        ValueError: If there is one input feature.
    """
