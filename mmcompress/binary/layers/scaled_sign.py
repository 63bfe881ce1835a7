"""Signs times a learnt scale: what IDa-Det, ReBNN and RBONN share."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .sign import binary_sign


class _ScaledSign(torch.autograd.Function):

    @staticmethod
    def forward(ctx, weight: Tensor, alpha: Tensor, bin: float,
                zero_as: str) -> Tensor:
        ctx.save_for_backward(weight, alpha)
        return bin * binary_sign(weight, zero_as) * alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, alpha = ctx.saved_tensors
        grad_alpha = (grad * weight).sum(dim=(1, 2, 3), keepdim=True)
        return grad * alpha, grad_alpha, None, None


def scaled_sign(weight: Tensor,
                scale: Tensor,
                bin: float,
                zero_as: str,
                signed: bool = True) -> Tensor:
    """Binarise a weight: ``bin * sign(weight) * |scale|``.

    With ``G`` the gradient of the result, the gradients are defined as

    - weight: ``G * |scale|``,
    - scale: ``sign(scale)`` times the sum of ``G * weight`` over each output
      channel; without ``sign(scale)`` unless ``signed``.

    Args:
        weight (Tensor): Shape (C_out, C_in, k, k).
        scale (Tensor): Shape (C_out, 1, 1, 1).
        bin (float): The fixed part of the scale.
        zero_as (str): As in :func:`binary_sign`.
        signed (bool): False is a defect of IDa-Det's official code.

    Returns:
        Tensor: Shape (C_out, C_in, k, k).
    """
    alpha = scale.abs()
    if not signed:
        # the value of |scale|, exactly, with the gradient of scale
        alpha = scale + (alpha - scale).detach()
    return _ScaledSign.apply(weight, alpha, bin, zero_as)


def reconstruction_gradients(weight: Tensor,
                             scale: Tensor,
                             strength: float | Tensor,
                             bin: float,
                             zero_as: str,
                             signed: bool = True) -> tuple[Tensor, Tensor]:
    """Gradients of ``strength / 2 * |weight - w_hat|**2``.

    The signs in ``w_hat = bin * sign(weight) * |scale|`` count as constants.

    Args:
        weight (Tensor): Shape (C_out, C_in, k, k).
        scale (Tensor): Shape (C_out, 1, 1, 1).
        strength (float | Tensor): A tensor has the shape of ``scale``.
        bin (float): The fixed part of the scale.
        zero_as (str): As in :func:`binary_sign`.
        signed (bool): As in :func:`scaled_sign`.

    Returns:
        tuple[Tensor, Tensor]: Of the weight and of the scale, their shapes.
    """
    signs = bin * binary_sign(weight, zero_as)
    error = strength * (weight - signs * scale.abs())
    grad_alpha = -(error * signs).sum(dim=(1, 2, 3), keepdim=True)
    return error, scale.sign() * grad_alpha if signed else grad_alpha
