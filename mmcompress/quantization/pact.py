"""PACT (Choi et al., 2018, arXiv 1805.06085): the clipping value is learnt.

With k bits, n = 2^k - 1 and s = a / n, for a clipping value a > 0::

    y = s clamp(round(x / s), 0, n)

    dy/dx = 1 where 0 <= x < a        dy/da = 1 where x >= a

and a penalty lambda a^2, which keeps a from growing.
"""
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.lowbit import Grid, add_gradient, call_before_step
from mmcompress.registry import MODELS
from .quantizer import Codes, Quantizer


class _Clipped(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x: Tensor, alpha: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(x, alpha)
        scale = alpha / n
        return (x / scale).round_().clamp_(0, n).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, alpha = ctx.saved_tensors
        above = x >= alpha
        dx = dy * (x >= 0).logical_and_(~above)
        return dx, (dy * above).sum().view(1), None


@MODELS.register_module()
class PACT(Quantizer):
    """Parameterized clipping of activations that aren't negative.

    The gradient of the penalty is added once per optimizer step, right before
    it, so it depends neither on AMP's loss scale nor on the number of
    accumulated batches or calls, and it isn't part of the loss that is
    logged. Weight decay of ``alpha`` would be a second penalty, and is refused
    as for all quantizers.

    Args:
        bits (int): Of a code.
        axis (None): It has one clipping value.
        size (int): 1.
        signed (bool): False.
        alpha (float): Where the clipping value begins.
        penalty (float): lambda.

    Raises:
        ValueError: If ``alpha`` is not positive, or ``penalty`` negative.
    """

    allowed_bits = range(1, 9)
    allowed_signs = (False, )
    per_axis = False
    stateful = False

    def __init__(self,
                 bits: int,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = False,
                 alpha: float = 6.0,
                 penalty: float = 1e-4) -> None:
        super().__init__(bits, axis, size, signed)
        if alpha <= 0 or penalty < 0:
            raise ValueError('PACT: alpha must be positive and penalty not '
                             f'negative, got {alpha} and {penalty}')
        self.penalty = penalty
        self.alpha = nn.Parameter(torch.tensor([float(alpha)]))
        call_before_step(self)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        call_before_step(self)

    @property
    def weight(self) -> nn.Parameter:
        """By whose gradient :func:`call_before_step` goes."""
        return self.alpha

    def before_step(self) -> None:
        """Add the gradient of the penalty."""
        add_gradient(self.alpha, 2 * self.penalty * self.alpha)

    def after_step(self) -> list[Tensor]:
        return [self.alpha]

    def _codes(self, x: Tensor) -> Codes:
        scale = self.alpha.to(x.dtype) / self.high
        return Codes((x / scale).round().clamp(0, self.high).int(), scale)

    def _quantize(self, x: Tensor) -> Tensor:
        return _Clipped.apply(x, self.alpha.to(x.dtype), self.high)

    def grid(self) -> Grid:
        return Grid(self.alpha.detach() / self.high, 0, 0, self.high)
