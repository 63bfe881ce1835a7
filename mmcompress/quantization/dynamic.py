"""Ranges of the present values: the 8-bit quantizers of TerViT.

With b bits and v = clip(x, -c, c), over the values that share a scale::

    symmetric   s = max|v| / (2^(b-1) - 1)        y = s round(v / s)
    minmax      r = max v - min v + 1e-8,  n = 2^b - 1
                y = r / n round((v - min v) / (r / n)) + min v

    dy/dx = 1 where -c < x < c

The range is a constant for the gradient. It depends on what else is in the
batch; ``act_range='ema'`` has a moving average of it for evaluation.
"""
import math

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmcompress.lowbit import Grid
from mmcompress.registry import MODELS
from .quantizer import Codes, Quantizer, Summary
from .straight_through import straight_through

_EPS = 1e-8


@MODELS.register_module()
class Dynamic(Quantizer):
    """Quantizes between the least and the largest of the present values.

    Args:
        bits (int): Of a code.
        axis (int | None): As of the base.
        size (int): As of the base.
        signed (bool): Of the codes: True for ``'symmetric'``, False for
            ``'minmax'``.
        kind (str | None): ``'symmetric'``: 0 has the code 0. ``'minmax'``:
            codes begin at the least value, which is a real offset, for
            softmax and GELU. None: as ``signed`` says.
        clip (float): Values beyond it count as it.
        per_token (bool): A range for each vector along the last axis, and for
            each matrix of an input of four dimensions; ``axis`` is None then.
        act_range (str): ``'dynamic'``. ``'ema'``: in eval mode, quantize by a
            moving average of the ranges of training, with one scale that an
            export needs. Training computes the same as with ``'dynamic'``.
        momentum (float): Of the moving average, the weight of a new batch.

    Raises:
        ValueError: If options contradict each other.
    """

    allowed_signs = (True, False)
    # with a moving average it is
    stateful = False

    def __init__(self,
                 bits: int = 8,
                 axis: int | None = None,
                 size: int = 1,
                 signed: bool | None = None,
                 kind: str | None = None,
                 clip: float = math.inf,
                 per_token: bool = False,
                 act_range: str = 'dynamic',
                 momentum: float = 0.01) -> None:
        self._check('kind', kind, (None, 'symmetric', 'minmax'))
        self._check('act_range', act_range, ('dynamic', 'ema'))
        if kind is None:
            kind = 'minmax' if signed is False else 'symmetric'
        if signed is None:
            signed = kind == 'symmetric'
        self.stateful = act_range == 'ema'
        super().__init__(bits, axis, size, signed)
        if signed != (kind == 'symmetric'):
            raise ValueError(f"Dynamic: kind='{kind}' has signed="
                             f'{kind == "symmetric"}, got {signed}')
        if clip <= 0 or not 0 < momentum <= 1:
            raise ValueError('Dynamic: clip must be positive and momentum in '
                             f'(0, 1], got {clip} and {momentum}')
        if per_token and (axis is not None or self.stateful):
            raise ValueError('Dynamic: per_token has a range for each token, '
                             f'so it goes neither with axis={axis} nor with '
                             f'act_range={act_range!r}')
        self.kind = kind
        self.clip = clip
        self.per_token = per_token
        self.momentum = momentum
        if self.stateful:
            self.register_buffer('least', torch.zeros(size))
            self.register_buffer('largest', torch.zeros(size))

    @property
    def low(self) -> int:
        return -self.high if self.kind == 'symmetric' else 0

    # ---- Range -------------------------------------------------------------

    def _initialize(self, x: Tensor, summary: Summary, sync: bool) -> None:
        self.least.copy_(summary.least.clamp(-self.clip, self.clip))
        self.largest.copy_(summary.largest.clamp(-self.clip, self.clip))

    def _present_range(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of clipped values, broadcasting with them."""
        if self.per_token:
            dims = (-2, -1) if x.dim() > 3 else (-1, )
            return x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
        least, largest = self._rows(x).aminmax(dim=1)
        return self._along(least, x), self._along(largest, x)

    @torch.no_grad()
    def _follow(self, x: Tensor) -> None:
        """Move the average, by all processes' values."""
        rows = self._rows(x.clamp(-self.clip, self.clip))
        # a process without values takes part
        edges = rows.new_full((2, self.size), -math.inf)
        if rows.numel():
            edges = torch.stack([-rows.amin(1), rows.amax(1)])
        all_reduce(edges, 'max')
        for average, edge in ((self.least, -edges[0]), (self.largest,
                                                        edges[1])):
            moved = average.lerp(edge.to(average), self.momentum)
            average.copy_(torch.where(edge.isinf(), average, moved))

    def _range(self, x: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        if self.stateful and not training:
            return self._along(self.least, x), self._along(self.largest, x)
        return self._present_range(x)

    # ---- Use ---------------------------------------------------------------

    def _codes(self, x: Tensor, training: bool = False) -> Codes:
        if not x.numel():
            return Codes(x.int(), x.new_ones(1))
        if self.clip < math.inf:
            x = x.clamp(-self.clip, self.clip)
        least, largest = self._range(x, training)
        if self.kind == 'symmetric':
            scale = torch.maximum(-least, largest) / self.high
            # of zeros only
            scale = torch.where(scale > 0, scale, 1)
            offset = 0.
        else:
            scale = (largest - least + _EPS) / self.high
            offset = least
            x = x - least
        values = (x / scale).round().clamp(self.low, self.high)
        return Codes(values.int(), scale, offset=offset)

    def _quantize(self, x: Tensor) -> Tensor:
        if self.stateful and self.training and torch.is_grad_enabled():
            self._follow(x)
        y = self._codes(x.detach(), self.training).dequantize()
        inside = x.abs() < self.clip
        if self.stateful and not self.training:
            least, largest = self._range(x, False)
            inside = inside.logical_and_(x >= least).logical_and_(x <= largest)
        return straight_through(x, y, inside)

    @property
    def is_symmetric(self) -> bool:
        """Whether it has no offset."""
        return self.kind == 'symmetric'

    def grid(self) -> Grid | None:
        """None with several scales, or an offset that follows from inputs."""
        if self.axis is not None or self.per_token:
            return None
        if not self.stateful:
            if not self.is_symmetric:
                return None
            return Grid(torch.ones(1), 0, self.low, self.high, None, self.clip)
        if self.is_symmetric:
            scale = torch.maximum(-self.least, self.largest) / self.high
            scale = torch.where(scale > 0, scale, 1)
            return Grid(scale, 0, self.low, self.high)
        scale = (self.largest - self.least + _EPS) / self.high
        return Grid(scale, 0, self.low, self.high, self.least)
