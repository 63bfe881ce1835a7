"""Prune the channels of a model: find, rank, cut, compare."""
import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn as nn
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mmcompress.tables import format_table
from .channels import (Channels, cut_channels, find_channels, mask_channels,
                       record)
from .criteria import choose, score


@dataclass
class PrunedChannels:
    """A model with fewer channels, and what became of it.

    Attributes:
        model (nn.Module): The pruned model.
        masked (nn.Module): The dense one, in which what was removed is 0.
        channels (dict[str, tuple | int]): For the step ``KeepChannels``.
        kept (dict[str, Tensor]): By the name of each group, the numbers of
            its channels that stay.
        found (Channels): What could be removed.
    """
    model: nn.Module
    masked: nn.Module
    channels: dict[str, tuple | int]
    kept: dict[str, Tensor]
    found: Channels

    def table(self) -> str:
        """What stayed, and what can't be removed."""
        rows = [[
            group.name,
            len({member.layer
                 for member in group.members}), f'{group.num} -> {len(kept)}'
        ] for group, kept in zip(self.found.groups, self.kept.values())]
        text = format_table(
            f'{sum(g.num for g in self.found.groups)} channels -> '
            f'{sum(map(len, self.kept.values()))}',
            ['channels of', 'layers that have them', 'channels'], rows)
        fixed = [[name, why] for name, why in self.found.fixed.items()]
        return text + format_table('Keeps its channels', ['layer', 'why'],
                                   fixed) if fixed else text


@contextmanager
def _same_proposals(models: tuple[nn.Module, ...]) -> Iterator[None]:
    """Let the second two-stage detector look where the first one does.

    Which boxes come first may hang on a rounding.
    """
    heads = [getattr(model, 'rpn_head', None) for model in models]
    proposed = []

    def propose(*args, predict, **kwargs) -> list:
        own = predict(*args, **kwargs)
        proposed.append(own)
        return proposed[0]

    heads = [head for head in heads if head is not None]
    try:
        for head in heads:
            head.predict = partial(propose, predict=head.predict)
        yield
    finally:
        for head in heads:
            del head.predict


def largest_difference(a: nn.Module, b: nn.Module, batch: dict) -> float:
    """Largest difference of two models' outputs, over the largest value.

    Args:
        a (nn.Module): In eval mode.
        b (nn.Module): In eval mode.
        batch (dict): Preprocessed.
    """
    outputs = []
    with torch.no_grad(), _same_proposals((a, b)):
        for model in (a, b):
            out = model(**copy.deepcopy(batch), mode='tensor')
            if hasattr(model, 'rpn_head'):
                features = model.extract_feat(batch['inputs'])
                out = (out, model.rpn_head(features))
            outputs.append(
                [x for x in tree_leaves(out) if isinstance(x, Tensor)])
    worst = max(
        (x - y).abs().max().item() for x, y in zip(*outputs, strict=True))
    return worst / max(y.abs().max().item() for y in outputs[1])


def prune_channels(model: nn.Module,
                   batch: dict,
                   ratio: float,
                   criterion: str = 'magnitude',
                   uniform: bool = False,
                   floor: float = 0.1,
                   round_to: int = 1,
                   exclude: list[str] | None = None,
                   batches: Iterable[dict] = (),
                   tolerance: float = 1e-4) -> PrunedChannels:
    """Remove the channels of a model that matter least.

    The pruned model is compared with the dense one in which these channels
    are 0.

    Args:
        model (nn.Module): A trained model of an mm library; not changed.
        batch (dict): Preprocessed images with labels, on which the model is
            followed.
        ratio (float): Share of the channels that go; channels that are added
            to each other count as one.
        criterion (str): See :func:`mmcompress.pruning.criteria.score`.
        uniform (bool): See :func:`mmcompress.pruning.criteria.choose`.
        floor (float): The same.
        round_to (int): The same.
        exclude (list[str] | None): See :func:`find_channels`.
        batches (Iterable[dict]): Of the training data, for
            ``criterion='taylor'``.
        tolerance (float): Largest relative difference that roundings explain.

    Returns:
        PrunedChannels: The pruned model, and what the config has to say.

    Raises:
        ValueError: On arguments that aren't allowed, or if nothing can be
            removed.
        RuntimeError: If the pruned model doesn't run, or computes something
            else than the masked one.
    """
    found = find_channels(model, batch, exclude)
    if not found.groups:
        name, why = next(iter(found.fixed.items()), ('it', 'has no layers'))
        raise ValueError(f'no channel of {type(model).__name__} can be '
                         f'removed; of {name}: {why}')
    nums = [group.num for group in found.groups]
    kept = choose(
        score(model, found.groups, criterion, batches), nums, ratio, uniform,
        floor, round_to)
    pruned, masked = copy.deepcopy(model), copy.deepcopy(model)
    for other in (pruned, masked):
        other.eval()
    cut_channels(pruned, found.groups, kept)
    mask_channels(masked, found.groups, kept)
    try:
        difference = largest_difference(pruned, masked, batch)
    except RuntimeError as error:
        raise RuntimeError(
            f'{type(model).__name__} does not run with fewer channels: its '
            f'code counts on their number ({error}). Leave out what that '
            'concerns (exclude)') from error
    if not difference <= tolerance:
        raise RuntimeError(
            f'the pruned {type(model).__name__} differs by {difference:.1e} '
            'from the dense one in which the same channels are 0: some code '
            'counts on their places. Leave out what that concerns (exclude)')
    names = [group.name for group in found.groups]
    return PrunedChannels(pruned, masked, record(model, pruned),
                          dict(zip(names, kept)), found)
