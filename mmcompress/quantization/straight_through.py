"""Values with the gradient of others."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _StraightThrough(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, slope: Tensor | None) -> Tensor:
        ctx.save_for_backward(slope)
        # which integers have no value for
        return torch.where(x.isnan(), x, y)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, None, None]:
        slope, = ctx.saved_tensors
        return dy if slope is None else dy * slope, None, None


def straight_through(x: Tensor,
                     y: Tensor,
                     slope: Tensor | None = None) -> Tensor:
    """Values whose derivative by others is what a method says.

    Args:
        x (Tensor): What the gradient goes to.
        y (Tensor): Same shape, without gradient.
        slope (Tensor | None): What the derivative is taken as; same shape,
            boolean for 0 and 1. None: 1.

    Returns:
        Tensor: ``y``, and NaN where ``x`` is that.
    """
    return _StraightThrough.apply(x, y.detach(), slope)
