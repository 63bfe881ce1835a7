"""A box coordinate as a classification over grid points."""
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor

from mmcompress.registry import MODELS
from .grid import decode, make_grid, outside, two_hot

UM_MODES = ('min', 'match')


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """``-sum_i p*_i log p_i``; its gradient by the logits is ``p - p*``.

    Args:
        logits (Tensor): Shape (..., n + 1).
        label (Tensor): Same shape, rows sum to 1.

    Returns:
        Tensor: In nats, shape (...).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return -(label * logits.to(dtype).log_softmax(-1)).sum(-1)


def entropy(logits: Tensor) -> Tensor:
    """``H(p) = -sum_i p_i log p_i``.

    Args:
        logits (Tensor): Shape (..., n + 1).

    Returns:
        Tensor: In nats, shape (...).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.to(dtype).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def label_entropy(label: Tensor) -> Tensor:
    """``H(p*)`` of labels, whose zeros add nothing.

    Args:
        label (Tensor): Shape (..., n + 1).

    Returns:
        Tensor: In nats, at most ln 2 for two-hot labels, shape (...).
    """
    return torch.special.entr(label).sum(-1)


def uncertainty(logits: Tensor, label: Tensor, um_mode: str) -> Tensor:
    """What the second term of the loss keeps small.

    Args:
        logits (Tensor): Shape (..., n + 1).
        label (Tensor): Two-hot labels, same shape.
        um_mode (str): ``min`` for ``H(p)``, the paper's second version;
            ``match`` for ``|H(p) - H(p*)|``, a reconstruction of the first,
            which names entropies of labels and predictions and no formula.

    Returns:
        Tensor: In nats, shape (...).
    """
    if um_mode == 'min':
        return entropy(logits)
    return (entropy(logits) - label_entropy(label)).abs()


def reduce_loss(value: Tensor, avg_factor: Tensor | float | None,
                reduction: str) -> Tensor:
    """Reduce as losses of mmdet do; with ``avg_factor``, mean is a quotient.

    Args:
        value (Tensor): Any shape.
        avg_factor (Tensor | float | None): What ``mean`` divides the sum by,
            instead of the number of elements.
        reduction (str): ``mean``, ``sum`` or ``none``.

    Returns:
        Tensor: Scalar, or of the given shape with ``none``.

    Raises:
        ValueError: On ``sum`` with an ``avg_factor``, which heads give.
    """
    if reduction == 'none':
        return value
    if reduction == 'sum':
        if avg_factor is not None:
            raise ValueError("reduction='sum' divides by nothing, but "
                             f"avg_factor={avg_factor}; take 'mean'")
        return value.sum()
    if avg_factor is None:
        avg_factor = max(value.numel(), 1)
    return value.sum() / avg_factor


# two records of the same calls are still two: the one that ends is left out
@dataclass(eq=False)
class Record:
    """What the loss saw between two moments.

    Attributes:
        uncertainty (list[Tensor]): A scalar with its graph for each call,
            weighted and averaged as the loss is.
        inputs (list[tuple]): Target, weight and average factor of each call.
        num_outside (list[Tensor]): Targets that were clamped.
        num_targets (list[int]): Targets with a weight.
    """
    uncertainty: list[Tensor] = field(default_factory=list)
    inputs: list[tuple] = field(default_factory=list)
    num_outside: list[Tensor] = field(default_factory=list)
    num_targets: list[int] = field(default_factory=list)

    def clamped_share(self, like: Tensor) -> Tensor:
        """Share of the targets that lay outside of the grid, in [0, 1].

        Args:
            like (Tensor): Gives the device, where the loss was not called.
        """
        num_outside = sum(self.num_outside, like.new_zeros(()).float())
        return num_outside / max(sum(self.num_targets), 1)


@MODELS.register_module()
class TwoHotLocalizationLoss(nn.Module):
    """Loss of C-BBL (Sun et al., arXiv 2303.01803), and its grid.

    Each coordinate is classified over the points of :func:`make_grid`. With
    the two-hot label ``p*`` of the target and ``p`` the softmax of the
    logits, a coordinate costs ``CE(p*, p) + lambda UM``; see
    :func:`uncertainty` for UM. Coordinates are multiplied by their weights,
    summed, and divided by ``avg_factor``.

    Reconstructed, for want of official code and of the paper's details:
    one-sided grids, clamping of targets, ``um_mode='match'``, the reduction
    and the loss weight of 1.

    ``um_mode='min'`` moves what is decoded towards the nearer grid point: see
    :func:`cbbl.entropy_bias.two_point_minimum`.

    The grid is saved with the weights. Weights of a head with other points
    mean other boxes, and are refused. Those of a head with another number of
    points don't fit; a warning says so.

    Args:
        alpha (float): Range of the grid, in units of the encoded targets: 5
            for R-CNN with its stds of 0.1 and 0.2, 2 for anchors.
        n (int): Number of intervals: 5 for R-CNN, 10 for anchors.
        beta (float | None): Of the IN grid; None for a uniform one.
        lambda_um (float): Weight of the uncertainty.
        um_mode (str): ``min`` or ``match``.
        one_sided (bool): Grid from 0 to ``alpha``, for distances.
        loss_weight (float): Weight of everything.
        reduction (str): ``mean``, ``sum`` or ``none``.

    Raises:
        TypeError: If ``n`` is not an int.
        ValueError: If an argument is out of range; in ``forward``, if shapes
            don't fit or a target with a weight is not finite; while loading,
            if the weights belong to another grid.
    """

    def __init__(self,
                 alpha: float = 5.0,
                 n: int = 5,
                 beta: float | None = 1.0,
                 lambda_um: float = 0.5,
                 um_mode: str = 'min',
                 one_sided: bool = False,
                 loss_weight: float = 1.0,
                 reduction: str = 'mean') -> None:
        super().__init__()
        if not 0 <= lambda_um < float('inf'):
            raise ValueError('lambda_um must be at least 0 and finite, got '
                             f'{lambda_um}')
        if um_mode not in UM_MODES:
            raise ValueError(f'um_mode must be one of {UM_MODES}, got '
                             f'{um_mode!r}')
        if reduction not in ('mean', 'sum', 'none'):
            raise ValueError('reduction must be mean, sum or none, got '
                             f'{reduction!r}')
        if um_mode == 'min' and lambda_um >= 1:
            print_log(
                f'TwoHotLocalizationLoss: with lambda_um {lambda_um} a target '
                'between two grid points has no minimum between them; below '
                "1 it has, and um_mode='match' always has",
                logger='current',
                level=logging.WARNING)
        self.lambda_um = lambda_um
        self.um_mode = um_mode
        self.loss_weight = loss_weight
        self.reduction = reduction
        self.settings = dict(alpha=alpha, n=n, beta=beta, one_sided=one_sided)
        self.register_buffer('grid',
                             make_grid(**self.settings, dtype=torch.float32))
        self._records: list[Record] = []

    @property
    def num_points(self) -> int:
        """Logits per coordinate, n + 1."""
        return len(self.grid)

    def decode(self, logits: Tensor) -> Tensor:
        """Coordinates of logits, shape (..., n + 1) to (...)."""
        return decode(logits, self.grid)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Write down what ``forward`` sees inside of the ``with``."""
        record = Record()
        self._records.append(record)
        try:
            yield record
        finally:
            self._records.remove(record)

    def forward(self,
                pred: Tensor,
                target: Tensor,
                weight: Tensor | None = None,
                avg_factor: Tensor | float | None = None,
                reduction_override: str | None = None) -> Tensor:
        """Compute the loss.

        Args:
            pred (Tensor): Logits, shape (M, 4, n + 1), or any other with as
                many elements in this order: heads of mmdet flatten them.
            target (Tensor): Encoded boxes, shape (M, 4).
            weight (Tensor | None): Shape (M, 4) or (M, ). A target without
                weight is not looked at.
            avg_factor (Tensor | float | None): Divisor of the sum.
            reduction_override (str | None): ``mean``, ``sum`` or ``none``.

        Returns:
            Tensor: Scalar, at least float32, with a gradient also if there
            are no targets; shape (M, 4) with ``none``.
        """
        if pred.numel() != target.numel() * self.num_points:
            raise ValueError(
                f'TwoHotLocalizationLoss: {self.num_points} logits for each '
                f'of the targets {tuple(target.shape)} are expected, got '
                f'{tuple(pred.shape)}; is the head one of cbbl, with this '
                'grid?')
        logits = pred.reshape(*target.shape, self.num_points)
        reduction = reduction_override or self.reduction
        weight = self._weight_like(weight, target)
        for record in self._records:
            record.inputs.append((target, weight, avg_factor))
        if reduction == 'none':
            target = target.masked_fill(weight == 0, 0)
        else:
            # most anchors have no target, and n + 1 logits each
            if avg_factor is None and reduction == 'mean':
                avg_factor = max(target.numel(), 1)
            kept = weight != 0
            logits, target, weight = logits[kept], target[kept], weight[kept]
        self._check_finite(target)
        _, label = two_hot(target, self.grid)
        value = cross_entropy(logits, label)
        if self.lambda_um or self._records:
            doubt = uncertainty(logits, label, self.um_mode)
            self._write(doubt, target, weight, avg_factor)
            if self.lambda_um:
                value = value + self.lambda_um * doubt
        return self.loss_weight * reduce_loss(value * weight, avg_factor,
                                              reduction)

    def _weight_like(self, weight: Tensor | None, target: Tensor) -> Tensor:
        if weight is None:
            return torch.ones_like(target)
        if weight.dim() == target.dim() - 1:
            weight = weight[..., None]
        try:
            return weight.expand_as(target)
        except RuntimeError:
            raise ValueError(
                f'TwoHotLocalizationLoss: weights {tuple(weight.shape)} do '
                f'not fit targets {tuple(target.shape)}') from None

    def _check_finite(self, target: Tensor) -> None:
        finite = target.isfinite()
        if not finite.all():
            raise ValueError(
                f'TwoHotLocalizationLoss: {int((~finite).sum())} of '
                f'{target.numel()} box targets are NaN or infinite. Boxes '
                'without width or height give such; take them out with '
                "dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))")

    def _write(self, doubt: Tensor, target: Tensor, weight: Tensor,
               avg_factor: Tensor | float | None) -> None:
        num_outside = outside(target, self.grid).sum()
        for record in self._records:
            record.uncertainty.append(
                reduce_loss(doubt * weight, avg_factor, 'mean'))
            record.num_outside.append(num_outside)
            record.num_targets.append(target.numel())

    def _check_grid(self, prefix: str, stored: Tensor) -> None:
        mine = self.grid.detach().to('cpu', torch.float64)
        error = (stored.to('cpu', torch.float64) - mine).abs().max()
        eps = max(torch.finfo(x.dtype).eps for x in (stored, self.grid))
        if error > 4 * eps * mine.abs().max():
            raise ValueError(
                f'{prefix}grid: the weights belong to a head with the grid '
                f'{stored.tolist()}, this one has {mine.tolist()} of '
                f'{self.settings}; give alpha, n, beta and one_sided of the '
                'config that the weights were trained with')

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        stored = state_dict.get(prefix + 'grid')
        if stored is not None and len(stored) != len(self.grid):
            print_log(
                f'{prefix}grid: the checkpoint is of a head with '
                f'{len(stored)} grid points, this one has {len(self.grid)}: '
                'its box layer does not fit and keeps the values it has',
                logger='current',
                level=logging.WARNING)
        elif stored is not None:
            self._check_grid(prefix, stored)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        settings = dict(
            self.settings, lambda_um=self.lambda_um, um_mode=self.um_mode)
        return ', '.join(f'{k}={v}' for k, v in settings.items())
