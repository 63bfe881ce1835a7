"""How much each channel matters, and which of them stay."""
import copy
import math
from collections.abc import Iterable

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from .channels import reads
from .units import Units

CRITERIA = ('magnitude', 'bn_scale', 'taylor', 'random')


def _sums(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Sum of a parameter's numbers for each unit, shape (units,)."""
    rows = tensor.transpose(0, dim).reshape(tensor.size(dim), -1).sum(1)
    return rows[index.to(rows.device)].sum(1).cpu()


def magnitude(model: nn.Module, group: Units) -> Tensor:
    """L2 norm of all parameters that a channel has, over the group's mean.

    Convolutions of different sizes are comparable by the second.

    Returns:
        Tensor: Shape (units,).
    """
    squares = sum(
        _sums(getattr(layer, key).detach().square(), dim, index)
        for layer, key, dim, index in group.slots(model)
        if isinstance(getattr(layer, key), nn.Parameter))
    norms = squares.sqrt()
    return norms / norms.mean().clamp(min=torch.finfo(norms.dtype).tiny)


def bn_scale(model: nn.Module, group: Units) -> Tensor | None:
    """Mean ``|gamma|`` of a channel's batch norms (Liu et al., ICCV 2017).

    Returns:
        Tensor | None: Shape (units,); None if no norm has a scale.
    """
    scales = [
        _sums(layer.weight.detach().abs(), 0, index) / index.size(1)
        for layer, key, dim, index in group.slots(model)
        if isinstance(layer, _BatchNorm) and key == 'weight'
    ]
    return torch.stack(scales).mean(0) if scales else None


def taylor(model: nn.Module, groups: list[Units],
           batches: Iterable[dict]) -> list[Tensor]:
    """By how much the loss would change without a channel, to first order.

    With ``W`` the weights that read a channel, that is ``|<W, dL/dW>|``: the
    gradient of a factor before everything that reads it. Averaged over
    batches. Batch norms use their stored statistics.

    Args:
        model (nn.Module): The model; not changed.
        groups (list[Units]): See :func:`find_channels`.
        batches (Iterable[dict]): Of the training data loader.

    Returns:
        list[Tensor]: Of each group, shape (units,).
    """
    model = copy.deepcopy(model)
    model.requires_grad_(True)
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    scores = [torch.zeros(group.num) for group in groups]
    num_batches = 0
    for batch in batches:
        model.zero_grad()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        num_batches += 1
        for score, group in zip(scores, groups):
            changes = [
                _sums((layer.weight * layer.weight.grad).detach(), dim, index)
                for layer, key, dim, index in group.slots(model)
                if key == 'weight' and reads(layer, dim)
                and layer.weight.grad is not None
            ]
            if changes:
                score += sum(changes).abs()
    if not num_batches:
        raise ValueError("criterion='taylor' needs batches of training data, "
                         'got none')
    return [score / num_batches for score in scores]


def score(model: nn.Module,
          groups: list[Units],
          criterion: str,
          batches: Iterable[dict] = ()) -> list[Tensor | None]:
    """How much each channel matters.

    Args:
        model (nn.Module): The model.
        groups (list[Units]): See :func:`find_channels`.
        criterion (str): ``'magnitude'``, ``'bn_scale'``, ``'taylor'``, or
            ``'random'``, with which to compare.
        batches (Iterable[dict]): For ``'taylor'``.

    Returns:
        list[Tensor | None]: Of each group, shape (units,); None if the
        criterion says nothing of it.

    Raises:
        ValueError: If the criterion is another, or lacks what it looks at.
    """
    if criterion not in CRITERIA:
        raise ValueError(f'criterion must be one of {", ".join(CRITERIA)}, '
                         f'got {criterion!r}')
    if criterion == 'taylor':
        return taylor(model, groups, batches)
    if criterion == 'random':
        return [torch.rand(group.num) for group in groups]
    rule = magnitude if criterion == 'magnitude' else bn_scale
    scores = [rule(model, group) for group in groups]
    if all(values is None for values in scores):
        raise ValueError(f'criterion={criterion!r}: no channel of '
                         f'{type(model).__name__} has a batch norm; take '
                         "'magnitude' or 'taylor'")
    return scores


def _rounded(num: int, of: int, to: int) -> int:
    """The next multiple, if there are so many."""
    return min(math.ceil(num / to) * to, of)


def choose(scores: list[Tensor | None],
           nums: list[int],
           ratio: float,
           uniform: bool = False,
           floor: float = 0.1,
           round_to: int = 1) -> list[Tensor]:
    """Which channels stay.

    Args:
        scores (list[Tensor | None]): See :func:`score`. Groups without keep
            all channels.
        nums (list[int]): How many units each group has.
        ratio (float): Share of the units that go, in (0, 1).
        uniform (bool): The share goes from each group, instead of those that
            matter least of all.
        floor (float): Share of each group that stays, whatever it matters;
            at least one channel does.
        round_to (int): Groups keep more, so that it is a multiple of so many.

    Returns:
        list[Tensor]: Of each group, the numbers of those that stay, in
        increasing order.

    Raises:
        ValueError: If an argument is out of its range.
    """
    for key, value in dict(ratio=ratio, floor=floor).items():
        if not 0 < value < 1:
            raise ValueError(f'{key} must be in (0, 1), got {value}')
    if round_to < 1:
        raise ValueError(f'round_to must be at least 1, got {round_to}')
    ranked = [values for values in scores if values is not None]
    least = [max(1, math.ceil(floor * len(values))) for values in ranked]
    total = sum(map(len, ranked))
    num_gone = round(ratio * total)
    if num_gone > total - sum(least):
        raise ValueError(
            f'ratio={ratio} of {total} channels leaves less than floor={floor}'
            ' of each group: lower one of them')
    if uniform:
        left = [
            max(n, round((1 - ratio) * len(values)))
            for n, values in zip(least, ranked)
        ]
    else:
        # the first of a group stay whatever comes
        free = torch.cat([
            values.sort(descending=True, stable=True).values[n:]
            for n, values in zip(least, ranked)
        ])
        owners = torch.cat([
            torch.full((len(values) - n, ), i)
            for i, (n, values) in enumerate(zip(least, ranked))
        ])
        gone = owners[free.argsort(stable=True)[:num_gone]]
        counts = torch.bincount(gone, minlength=len(ranked)).tolist()
        left = [len(values) - n for values, n in zip(ranked, counts)]
    numbers = iter(left)
    kept = []
    for values, num in zip(scores, nums, strict=True):
        if values is None:
            kept.append(torch.arange(num))
            continue
        keep = _rounded(next(numbers), num, round_to)
        best = values.argsort(descending=True, stable=True)[:keep]
        kept.append(best.sort().values)
    return kept
