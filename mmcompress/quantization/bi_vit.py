"""Binarizers of Bi-ViT: signs of activations and weights, attention maps.

Bi-ViT (Li et al., AAAI 2024, arXiv 2305.12354) and its released code have,
the sign of 0 being +1 here:

``ActBi``, with a scale s and a zero point z for each head, g = 1 / sqrt(numel)
and I = 1 where |u| <= 1::

    u = x / s + round(z)    y = s (sign(u) - round(z))
    dy/dx = I
    dy/ds = g (sign(u) - round(z) - I x / s)    dy/dz = g s (I - 1)

Without z it is what its ``LinearBi`` does with weights.

``LSF``, for attention maps, which are not negative: LSQ of one unsigned bit,
y = s round(clip(x / s, 0, 1)), so g = 1 / sqrt(numel).

``SignActivation``: y = sign(x); dy/dx = 2 - 2|x| where |x| < 1, else 0
(``'bireal'``), or 1 where |x| <= 1, else 0 (``'clip'``).

``SignWeight``: y = a sign(w), a = mean|w| of each output channel, a constant;
dy/dw = 1 where |w| <= 1, which isn't multiplied by a. ``center=True``: of
w - mean w instead of w, but for a.
"""
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.lowbit import Signs
from mmcompress.registry import MODELS
from .lsq import LSQ
from .quantizer import Codes, Quantizer, Summary
from .straight_through import straight_through


def sign(x: Tensor, zero_to: int = 1) -> Tensor:
    """Sign of each element.

    Args:
        x (Tensor): Any shape.
        zero_to (int): What 0 becomes: 1, or 0 as in the official code, which
            no bit can hold.

    Returns:
        Tensor: Same shape and dtype.
    """
    if zero_to == 0:
        return x.sign()
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class _Shifted(torch.autograd.Function):
    """Signs by scales and zero points that broadcast with the values."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, zero_point: Tensor | None,
                factor: float, zero_to: int) -> Tensor:
        ctx.save_for_backward(x, scale, zero_point)
        ctx.rest = factor, zero_to
        z = 0 if zero_point is None else zero_point.round()
        return (sign(x / scale + z, zero_to) - z) * scale

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple:
        x, scale, zero_point = ctx.saved_tensors
        factor, zero_to = ctx.rest
        z = 0 if zero_point is None else zero_point.round()
        v = x / scale
        u = v + z
        inside = u.abs() <= 1
        dx = dy * inside
        d_scale = d_zero = None
        if ctx.needs_input_grad[1]:
            # not 0 * v, which is no number where v is infinite
            step = sign(u, zero_to) - z - v.masked_fill(~inside, 0)
            d_scale = (dy * step).sum_to_size(scale.shape) * factor
        if zero_point is not None and ctx.needs_input_grad[2]:
            d_zero = ((dx - dy) * scale).sum_to_size(zero_point.shape) * factor
        return dx, d_scale, d_zero, None, None


def _below(limit: Tensor) -> Tensor:
    """The number before, so that > stands for >=."""
    return torch.nextafter(limit, limit.new_tensor(-torch.inf))


def _least_that_reaches(scale: Tensor, value: Tensor) -> Tensor:
    """The least number x whose ``x / scale`` is at least an integer."""
    x = value * scale
    for _ in range(4):
        before = _below(x)
        x = torch.where(before / scale >= value, before, x)
    for _ in range(4):
        after = torch.nextafter(x, x.new_tensor(torch.inf))
        x = torch.where(x / scale >= value, x, after)
    return x


class _Sign(Quantizer):
    """One bit: the codes are -1 and +1."""

    allowed_bits = (1, )
    allowed_signs = (True, )
    low = -1
    high = 1

    def __init__(self,
                 bits: int = 1,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 zero_to: int = 1) -> None:
        super().__init__(bits, axis, size, signed)
        self._check('zero_to', zero_to, (1, 0))
        self.zero_to = zero_to


@MODELS.register_module()
class ActBi(_Sign):
    """Signs times a learned scale, with a learned integer zero point.

    On an attention map, whose values aren't negative, and with a zero point
    that rounds to 0, as at the beginning, every code is +1: use
    :class:`LSF` there.

    Args:
        bits (int): 1.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool): True.
        zero_to (int): The sign of 0: 1, or 0 as in the official code.
        offset (str | None): ``'zero_point'``; None: none, for weights.
    """

    def __init__(self,
                 bits: int = 1,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 zero_to: int = 1,
                 offset: str | None = 'zero_point') -> None:
        super().__init__(bits, axis, size, signed, zero_to)
        self._check('offset', offset, (None, 'zero_point'))
        self.scale = nn.Parameter(torch.ones(size))
        self.zero_point = None
        if offset is not None:
            self.zero_point = nn.Parameter(torch.zeros(size))

    def after_step(self) -> list[Tensor]:
        return [self.scale]

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        scale = 2 * summary.mean(False)
        self.scale.copy_(scale)
        if self.zero_point is not None:
            # in units of x, and a tenth of it, as the official code has it
            self.zero_point.copy_(0.1 * (summary.least.min() + scale))

    def _zero_point_along(self, x: Tensor) -> Tensor | None:
        if self.zero_point is None:
            return None
        return self._along(self.zero_point, x)

    @property
    def is_symmetric(self) -> bool:
        """Whether it has no zero point."""
        return self.zero_point is None

    @torch.no_grad()
    def signs(self) -> Signs | None:
        """None with several scales, or a third level."""
        if self.axis is not None or self.zero_to == 0:
            return None
        if self.zero_point is None:
            return Signs(self.scale, _below(torch.zeros_like(self.scale)))
        z = self.zero_point.round()
        limit = _least_that_reaches(self.scale, -z)
        return Signs(self.scale, _below(limit), -z * self.scale)

    def _codes(self, x: Tensor) -> Codes:
        scale, z = self._along(self.scale, x), self._zero_point_along(x)
        z = 0 if z is None else z.round()
        values = sign(x / scale + z, self.zero_to).int()
        return Codes(values, scale, z.int() if isinstance(z, Tensor) else z)

    def _quantize(self, x: Tensor) -> Tensor:
        return _Shifted.apply(x, self._along(self.scale, x),
                              self._zero_point_along(x),
                              max(x.numel(), 1)**-0.5, self.zero_to)


@MODELS.register_module()
class LSF(LSQ):
    """The learnable scaling factor of Bi-ViT's attention maps.

    Differs from the released code, which has none for them; it is rebuilt
    from the paper's description.

    Args:
        bits (int): 1.
        axis (int | None): As of the base; of heads.
        size (int): As of the base.
        signed (bool): False.
    """

    allowed_bits = (1, )
    allowed_signs = (False, )

    def __init__(self,
                 bits: int = 1,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = False) -> None:
        super().__init__(bits, axis, size, signed)


@MODELS.register_module()
class SignActivation(_Sign):
    """Signs of activations, without a scale.

    Args:
        bits (int): 1.
        axis (None): It has no scale.
        size (int): 1.
        signed (bool): True.
        zero_to (int): The sign of 0: 1, or 0 as in the official code.
        ste (str): The gradient: ``'bireal'`` or ``'clip'``.
    """

    per_axis = False
    stateful = False

    def __init__(self,
                 bits: int = 1,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 zero_to: int = 1,
                 ste: str = 'bireal') -> None:
        super().__init__(bits, axis, size, signed, zero_to)
        self._check('ste', ste, ('bireal', 'clip'))
        self.ste = ste

    def signs(self) -> Signs | None:
        """None with a third level."""
        if self.zero_to == 0:
            return None
        return Signs(torch.ones(1), _below(torch.zeros(1)))

    def _codes(self, x: Tensor) -> Codes:
        return Codes(sign(x, self.zero_to).int(), x.new_ones(1))

    def _quantize(self, x: Tensor) -> Tensor:
        magnitude = x.detach().abs()
        if self.ste == 'bireal':
            slope = (2 - 2 * magnitude).clamp_(min=0)
        else:
            slope = magnitude <= 1
        return straight_through(x, sign(x, self.zero_to), slope)


@MODELS.register_module()
class SignWeight(_Sign):
    """Signs of weights times their mean magnitude.

    Args:
        bits (int): 1.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool): True.
        zero_to (int): The sign of 0: 1, or 0 as in the official code.
        center (bool): Whether signs are those of the difference from the
            mean, as in ``QuantizeLinear`` of the official code.
    """

    stateful = False

    def __init__(self,
                 bits: int = 1,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | str = True,
                 zero_to: int = 1,
                 center: bool = False) -> None:
        super().__init__(bits, axis, size, signed, zero_to)
        self.center = center

    def _mean(self, x: Tensor) -> Tensor:
        rows = self._rows(x)
        return self._along(rows.sum(1) / max(rows.shape[1], 1), x)

    def _latent(self, x: Tensor) -> Tensor:
        return x - self._mean(x) if self.center else x

    def _codes(self, x: Tensor) -> Codes:
        values = sign(self._latent(x), self.zero_to).int()
        return Codes(values, self._mean(x.abs()))

    def _quantize(self, x: Tensor) -> Tensor:
        latent = self._latent(x)
        y = self._codes(x.detach()).dequantize()
        return straight_through(latent, y, latent.detach().abs() <= 1)
