"""Choose units by the weights alone: the control of every search."""
from collections.abc import Mapping

import torch
import torch.nn as nn
from torch import Tensor

from .units import Units, find_units
from .upop import keep_units


@torch.no_grad()
def magnitudes(units: Units, model: nn.Module) -> Tensor:
    """Root mean square of the numbers that leave with each unit.

    Args:
        units (Units): A group.
        model (nn.Module): Its model.

    Returns:
        Tensor: Shape (number of units, ), float64.
    """
    squares = torch.zeros(units.num, dtype=torch.float64)
    for layer, key, dim, index in units.slots(model):
        rows = getattr(layer, key).detach().cpu().double().transpose(0, dim)
        rows = rows.square().flatten(1).sum(1) if rows.dim() > 1 else \
            rows.square()
        squares += rows[index].sum(1)
    return (squares / units.parameters_per_unit(model)).sqrt()


def copies_of(model: nn.Module) -> dict[str, str]:
    """Groups of moving averages, and those that they are averages of.

    Args:
        model (nn.Module): Such as mmpretrain's BlipRetrieval, which lists its
            ``model_pairs``.
    """
    names = {id(module): name for name, module in model.named_modules()}
    groups = [units.name for units in find_units(model)]
    copies = {}
    for source, average in getattr(model, 'model_pairs', ()):
        ours, theirs = names[id(source)], names[id(average)]
        copies.update((name, ours + name.removeprefix(theirs))
                      for name in groups
                      if f'{name}.'.startswith(f'{theirs}.'))
    return copies


def choose_share(model: nn.Module, ratio: float) -> dict[str, Tensor]:
    """The units that stay, of all groups ranked together.

    As in UPop's search: magnitudes are standardized over all groups of a
    kind, and each unit counts the parameters that leave with it.

    Args:
        model (nn.Module): Dense.
        ratio (float): Share of the parameters of all units that goes.

    Returns:
        dict[str, Tensor]: Numbers of units, int64, by the name of the group.
    """
    copies = copies_of(model)
    groups = [u for u in find_units(model) if u.name not in copies]
    stays = keep_units([-magnitudes(units, model)
                        for units in groups], [units.kind for units in groups],
                       [units.parameters_per_unit(model) for units in groups],
                       ratio)
    return {
        units.name: kept.nonzero().flatten()
        for units, kept in zip(groups, stays)
    }


def choose_counts(
        model: nn.Module,
        counts: Mapping[str, int],
        first: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The largest units of each group.

    Args:
        model (nn.Module): Dense.
        counts (Mapping[str, int]): How many stay, by the name of the group.
        first (Mapping[str, Tensor] | None): Units that stay before others.

    Returns:
        dict[str, Tensor]: As of :func:`choose_share`.
    """
    groups = {units.name: units for units in find_units(model)}
    kept = {}
    for name, num in counts.items():
        score = magnitudes(groups[name], model)
        if first is not None:
            score[first[name]] += score.max() + 1
        order = score.argsort(descending=True, stable=True)
        kept[name] = order[:num].sort().values
    return kept


def with_copies(model: nn.Module, kept: dict[str,
                                             Tensor]) -> dict[str, Tensor]:
    """The same, with averages of what is pruned.

    Args:
        model (nn.Module): Dense.
        kept (dict[str, Tensor]): See :func:`choose_share`.
    """
    copies = copies_of(model)
    return kept | {
        name: kept[source]
        for name, source in copies.items() if source in kept
    }


def round_up(model: nn.Module, kept: dict[str, Tensor],
             multiple: int) -> dict[str, Tensor]:
    """Keep more units, so that their number is a multiple.

    Args:
        model (nn.Module): Dense.
        kept (dict[str, Tensor]): See :func:`choose_share`.
        multiple (int): Of it, or all units of the group.
    """
    nums = {units.name: units.num for units in find_units(model)}
    counts = {
        name: min(-(-len(units) // multiple) * multiple, nums[name])
        for name, units in kept.items()
    }
    return choose_counts(model, counts, first=kept)
