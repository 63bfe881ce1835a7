"""Unified and progressive pruning: which units go, and how fast."""
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .masks import UnitMask
from .units import Units


def progress(step: int, total: int, p: float) -> float:
    """Share of the parameters that goes, as far as it has come.

    It rises along half a cosine, and is exactly ``p`` at the last step.

    Args:
        step (int): Optimizer step, counted from 0.
        total (int): Steps of the search.
        p (float): Share at the end.
    """
    return p * math.sqrt((1 - math.cos(math.pi * (step + 1) / total)) / 2)


def updates_at(step: int,
               total: int,
               interval: int,
               skip_first: bool = True) -> bool:
    """Whether masks change after a step.

    Args:
        step (int): Optimizer step, counted from 0.
        total (int): Steps of the search. After the last one they change.
        interval (int): Steps from one change to the next.
        skip_first (bool): Whether they don't after step 0.
    """
    if step == total - 1:
        return True
    return (step < total and step % interval == 0
            and not (skip_first and step == 0))


def standardize(x: Tensor) -> Tensor:
    """Shift and scale to mean 0 and unbiased standard deviation 1.

    Values that are all the same, or a single one, become 0.

    Args:
        x (Tensor): Shape (N, ).
    """
    centred = x - x.mean()
    if len(x) == 1:
        return centred
    std = x.std()
    # less is rounding
    is_constant = std <= 1e-12 * x.abs().max()
    return torch.where(is_constant, 0, centred / std)


def keep_units(gradients: Sequence[Tensor], kinds: Sequence[str],
               weights: Sequence[float], share: float) -> list[Tensor]:
    """Rank all units, whatever they are, and choose those that stay.

    Gradient descent would lower the masks of the largest gradients most, so
    these units go. Gradients are standardized over all units of a kind. A
    group keeps one unit at least.

    Args:
        gradients (Sequence[Tensor]): Of the loss with respect to the masks,
            summed over the steps, for each group, shape (number of units, ).
        kinds (Sequence[str]): Of the groups. They are ranked in alphabetical
            order, and within a kind as given, where scores are equal.
        weights (Sequence[float]): What a unit of the group counts, such as
            its parameters.
        share (float): What shall go, of the sum of the weights.

    Returns:
        list[Tensor]: For each group True where a unit stays, shape (number of
        units, ).

    Raises:
        ValueError: If a gradient isn't finite.
    """
    order = sorted(range(len(kinds)), key=kinds.__getitem__)
    scores = {}
    for kind in dict.fromkeys(kinds):
        own = [i for i in order if kinds[i] == kind]
        # float64: a sum over many units decides
        joined = torch.cat([gradients[i].double() for i in own])
        if not joined.isfinite().all():
            raise ValueError(f'gradients of {kind} units are not finite')
        sizes = [len(gradients[i]) for i in own]
        scores.update(zip(own, standardize(joined).split(sizes)))
    counted = torch.cat(
        [torch.full_like(scores[i], weights[i]) for i in order])
    ranked = torch.cat([scores[i] for i in order]).sort(
        descending=True, stable=True)
    gone = counted[ranked.indices].cumsum(0)
    nearest = (gone - share * counted.sum()).abs().argmin()
    threshold = ranked.values[nearest]
    return [(x <= threshold) | (x <= x.min())
            for x in (scores[i] for i in range(len(kinds)))]


@torch.no_grad()
def lower_masks(groups: Mapping[UnitMask, Units], weights: Mapping[UnitMask,
                                                                   float],
                share: float, low: float) -> None:
    """Rank the units of all groups, and set their masks.

    Args:
        groups (Mapping[UnitMask, Units]): Masks with their gradients, and
            whose they are.
        weights (Mapping[UnitMask, float]): See :func:`keep_units`.
        share (float): What shall go, of the sum of the weights.
        low (float): The mask of what goes; that of what stays is 1.
    """
    keeps = keep_units([mask.gradient for mask in groups],
                       [units.kind for units in groups.values()],
                       [weights[mask] for mask in groups], share)
    for mask, keep in zip(groups, keeps):
        mask.value.fill_(low).masked_fill_(keep, 1)
