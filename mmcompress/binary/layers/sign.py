"""Signs, and how the gradient passes them."""
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def binary_sign(x: Tensor, zero_as: str = 'neg') -> Tensor:
    """Sign of each element, without a gradient rule of its own.

    Args:
        x (Tensor): Any shape.
        zero_as (str): ``'neg'``: zeros become -1, which a bit can hold.
            ``'zero'``: zeros stay 0, as in the official training code of most
            1-bit methods.

    Returns:
        Tensor: -1, +1 (and 0), same shape and dtype.
    """
    if zero_as == 'zero':
        return x.sign()
    # five times as fast as `torch.where` of two numbers
    return (x > 0).to(x.dtype).mul_(2).sub_(1)


def mean_magnitude(weight: Tensor) -> Tensor:
    """Mean of ``|weight|`` over each output channel, shape (C_out, 1, ...)."""
    return weight.abs().mean(dim=tuple(range(1, weight.dim())), keepdim=True)


class _BiRealSign(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, zero_as: str) -> Tensor:
        ctx.save_for_backward(x)
        return binary_sign(x, zero_as)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        x, = ctx.saved_tensors
        # no product of a large number with a zero: finite in half precision
        return grad * (2 - 2 * x.abs()).clamp(min=0), None


def bireal_sign(x: Tensor, zero_as: str = 'neg') -> Tensor:
    """Sign whose gradient is that of Bi-Real Net's piecewise quadratic.

    The derivative is taken as ``2 - 2 * |x|`` where ``|x| < 1`` and as 0
    elsewhere (Liu et al., ECCV 2018, arXiv:1811.01335).

    Args:
        x (Tensor): Any shape.
        zero_as (str): As in :func:`binary_sign`.

    Returns:
        Tensor: -1, +1 (and 0), same shape and dtype.
    """
    return _BiRealSign.apply(x, zero_as)


class _ClippedSign(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, zero_as: str, closed: bool) -> Tensor:
        ctx.save_for_backward(x.abs() <= 1 if closed else x.abs() < 1)
        return binary_sign(x, zero_as)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        inside, = ctx.saved_tensors
        return torch.where(inside, grad, 0), None, None


def clipped_sign(x: Tensor,
                 zero_as: str = 'neg',
                 closed: bool = False) -> Tensor:
    """Sign whose derivative is taken as 1 where ``|x| < 1``, else as 0.

    Args:
        x (Tensor): Any shape.
        zero_as (str): As in :func:`binary_sign`.
        closed (bool): The derivative is 1 at ``|x| = 1``, too.

    Returns:
        Tensor: -1, +1 (and 0), same shape and dtype.
    """
    return _ClippedSign.apply(x, zero_as, closed)


class _StraightSign(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, zero_as: str) -> Tensor:
        return binary_sign(x, zero_as)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def straight_sign(x: Tensor, zero_as: str = 'neg') -> Tensor:
    """Sign whose derivative is taken as 1 everywhere.

    Args:
        x (Tensor): Any shape.
        zero_as (str): As in :func:`binary_sign`.

    Returns:
        Tensor: -1, +1 (and 0), same shape and dtype.
    """
    return _StraightSign.apply(x, zero_as)
