"""Ranges of what a quantizer will quantize, collected over many calls.

From the least value lo and the largest one hi, with codes between L and H::

    affine     lo, hi = min(lo, 0), max(hi, 0)
               s = (hi - lo) / (H - L)    z = clamp(L - round(lo / s), L, H)
    symmetric  s = max(-lo, hi) / ((H - L) / 2)              z = 0
               s = hi / H, if L is 0                         z = 0

s is at least the float32 epsilon. Observers differ in what lo and hi are. ::

    quantizer.observer = MinMax(quantizer)
    ...                                       # run the model on some images
    scale, zero_point = quantizer.observer.scale_and_zero_point(-8, 7, True)
"""
import math

import torch
import torch.nn as nn
from mmengine.dist import all_reduce
from torch import Tensor

from mmcompress.precision import at_least_float32
from .quantizer import Quantizer

_EPS = torch.finfo(torch.float32).eps
# values that are kept of a quantizer's input
_KEPT = 2**18
# of the range, which the least squared error is looked for in
_FRACTIONS = torch.linspace(0.2, 1, 41).tolist()


def scale_of_range(least: Tensor, largest: Tensor, low: int, high: int,
                   symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scales and zero points with which codes cover ranges.

    Args:
        least (Tensor): Shape (K, ).
        largest (Tensor): Shape (K, ).
        low (int): The least code.
        high (int): The largest code.
        symmetric (bool): Whether 0 has the code 0.

    Returns:
        tuple[Tensor, Tensor]: Positive scales, and zero points, which are
        integers in the same dtype; each of shape (K, ).
    """
    least, largest = least.clamp(max=0), largest.clamp(min=0)
    if symmetric:
        if low < 0:
            largest = torch.maximum(-least, largest)
        scale = largest / ((high - low) / 2 if low < 0 else high)
        scale = scale.clamp(min=_EPS)
        return scale, torch.zeros_like(scale)
    scale = ((largest - least) / (high - low)).clamp(min=_EPS)
    return scale, (low - (least / scale).round()).clamp(low, high)


class Observer:
    """Base of what a quantizer calls instead of quantizing.

    The range of an activation is the widest of all processes.

    Args:
        quantizer (Quantizer): Says which values share a scale.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        self.quantizer = quantizer
        # weights are the same in all processes
        self.sync = True
        self.least: Tensor | None = None
        self.largest: Tensor | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> None:
        """Collect.

        Args:
            x (Tensor): As of the quantizer.
        """
        self.sync = not isinstance(x, nn.Parameter)
        rows = at_least_float32(self.quantizer._rows(x.detach()))
        if self.least is None:
            # a process without data takes part with them
            self.least = rows.new_full((len(rows), ), math.inf)
            self.largest = -self.least
        if rows.numel():
            self._collect(rows)

    def _collect(self, rows: Tensor) -> None:
        """Take values into account, of shape (K, M), M > 0."""
        least, largest = rows.aminmax(dim=1)
        self.least = torch.minimum(self.least, least)
        self.largest = torch.maximum(self.largest, largest)

    @torch.no_grad()
    def range(self) -> tuple[Tensor, Tensor]:
        """The least and the largest value, of shape (K, ), of all processes.

        Raises:
            ValueError: If there were none, or one is not finite.
        """
        edges = None
        if self.least is not None:
            least, largest = self._range()
            edges = torch.stack([-least, largest])
            if self.sync:
                all_reduce(edges, 'max')
        if edges is None or (edges == -math.inf).all():
            raise ValueError(
                f'{self.quantizer} has seen no value, so it has no range: run '
                'the model on some images, through this part of it')
        least, largest = -edges[0], edges[1]
        if not (least.isfinite().all() and largest.isfinite().all()):
            raise ValueError(
                f'{self.quantizer}: the values that were collected are not '
                f'finite, between {least.min()} and {largest.max()}')
        return least, largest

    def _range(self) -> tuple[Tensor, Tensor]:
        """Of this process; without a value, from infinity to minus it."""
        return self.least, self.largest

    def scale_and_zero_point(self, low: int, high: int,
                             symmetric: bool) -> tuple[Tensor, Tensor]:
        """What to quantize with.

        Args:
            low (int): The least code.
            high (int): The largest code.
            symmetric (bool): Whether 0 has the code 0.

        Returns:
            tuple[Tensor, Tensor]: As of :func:`scale_of_range`.

        Raises:
            ValueError: As :meth:`range`.
        """
        return scale_of_range(*self.range(), low, high, symmetric)


class MinMax(Observer):
    """The least and the largest value of all calls."""


class MovingAverage(Observer):
    """Moving averages of each call's least and largest value.

    Args:
        quantizer (Quantizer): Says which values share a scale.
        momentum (float): Weight of a new call.
    """

    def __init__(self, quantizer: Quantizer, momentum: float = 0.01) -> None:
        super().__init__(quantizer)
        if not 0 < momentum <= 1:
            raise ValueError(
                f'MovingAverage: momentum must be in (0, 1], got {momentum}')
        self.momentum = momentum
        self._began = False

    def _collect(self, rows: Tensor) -> None:
        least, largest = rows.aminmax(dim=1)
        if self._began:
            least = self.least + self.momentum * (least - self.least)
            largest = self.largest + self.momentum * (largest - self.largest)
        self.least, self.largest = least, largest
        self._began = True


class _Sampled(Observer):
    """Keeps a sample of the values, all of them as long as they are few.

    The sample is drawn with a generator of its own, so that the same calls
    lead to the same scales, and training draws what it drew without.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__(quantizer)
        self.sample: Tensor | None = None
        self._seen = 0
        self._random = torch.Generator().manual_seed(0)

    def _collect(self, rows: Tensor) -> None:
        super()._collect(rows)
        old = rows[:, :0] if self.sample is None else self.sample
        room = max(_KEPT // len(rows), 256)
        seen = self._seen
        self._seen += rows.shape[1]
        if self._seen > room:
            # each value seen so far is kept with equal probability
            num_old = min(room * seen // self._seen, old.shape[1])
            kept = torch.randperm(old.shape[1], generator=self._random)
            drawn = torch.randint(
                rows.shape[1], (room - num_old, ), generator=self._random)
            old = old[:, kept[:num_old].to(rows.device)]
            rows = rows[:, drawn.to(rows.device)]
        self.sample = torch.cat([old, rows], dim=1)


class Percentile(_Sampled):
    """Quantiles, interpolated linearly, over all calls.

    Args:
        quantizer (Quantizer): Says which values share a scale.
        percentile (float): Share of the values below the largest one, and
            above the least one.
    """

    def __init__(self,
                 quantizer: Quantizer,
                 percentile: float = 0.9999) -> None:
        super().__init__(quantizer)
        if not 0.5 < percentile <= 1:
            raise ValueError('Percentile: percentile must be in (0.5, 1], '
                             f'got {percentile}')
        self.percentile = percentile

    def _range(self) -> tuple[Tensor, Tensor]:
        sample, p = self.sample, self.percentile
        if sample is None:
            return super()._range()
        least, largest = torch.quantile(
            sample, sample.new_tensor([1 - p, p]), dim=1)
        return least, largest


class MSE(_Sampled):
    """The part of the whole range with the least squared error."""

    @torch.no_grad()
    def scale_and_zero_point(self, low: int, high: int,
                             symmetric: bool) -> tuple[Tensor, Tensor]:
        least, largest = self.range()
        # none in this process
        sample = least[:, None][:, :0] if self.sample is None else self.sample
        scales, zero_points, errors = [], [], []
        for fraction in _FRACTIONS:
            scale, zero_point = scale_of_range(fraction * least,
                                               fraction * largest, low, high,
                                               symmetric)
            s, z = scale[:, None], zero_point[:, None]
            codes = (sample / s).round_().add_(z).clamp_(low, high)
            error = codes.sub_(z).mul_(s).sub_(sample).square_().sum(1)
            scales.append(scale)
            zero_points.append(zero_point)
            errors.append(error)
        total = torch.stack(errors)
        if self.sync:
            all_reduce(total, 'sum')
        best = total.argmin(0, keepdim=True)
        return (torch.stack(scales).gather(0, best)[0],
                torch.stack(zero_points).gather(0, best)[0])


#: Observers by the names that tools and configs know.
OBSERVERS: dict[str, type[Observer]] = dict(
    minmax=MinMax,
    moving_average=MovingAverage,
    percentile=Percentile,
    mse=MSE)
