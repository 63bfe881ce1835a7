"""Does a pruned model compute what the masked one does?"""
import copy
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn as nn
from mmengine.logging import print_log
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mmcompress.deploy.verify.model import (VerificationError,
                                            end_to_end_difference, predict)
from .channel_pruning import largest_difference

#: Of the norm of outputs, for each group of units: float32 rounds sums of
#: fewer numbers otherwise. These errors add up like random ones.
TOLERANCE = 1e-6
#: Of the largest output. Channels are fewer in all layers.
CHANNEL_TOLERANCE = 1e-5


def _relative(found: object, expected: object) -> float:
    """Norm of the difference of nested outputs, over their norm."""
    pairs = [(a, b) for a, b in zip(
        tree_leaves(found), tree_leaves(expected), strict=True)
             if isinstance(b, Tensor) and b.is_floating_point()]
    squares = [sum(float(x.double().square().sum()) for x in tensors)
               for tensors in ([a - b for a, b in pairs],
                               [b for _, b in pairs])]  # yapf: disable
    return (squares[0] / squares[1])**0.5 if squares[1] else squares[0]**0.5


@torch.no_grad()
def layer_differences(reference: nn.Module, pruned: nn.Module,
                      names: Iterable[str], batches: list) -> dict[str, float]:
    """How far modules differ that get the same input.

    Args:
        reference (nn.Module): Of whose modules the inputs are.
        pruned (nn.Module): The other model.
        names (Iterable[str]): Of modules in both.
        batches (list): Of the test data.

    Returns:
        dict[str, float]: Largest relative difference by the name of the
        module. Those that were not called have none.
    """
    worst: dict[str, float] = {}

    def compare(name: str, module: nn.Module, args: tuple, kwargs: dict,
                out: object) -> None:
        found = pruned.get_submodule(name)(*args, **kwargs)
        worst[name] = max(worst.get(name, 0.), _relative(found, out))

    handles = [
        reference.get_submodule(name).register_forward_hook(
            partial(compare, name), with_kwargs=True) for name in set(names)
    ]
    try:
        for batch in batches:
            predict(reference, batch)
    finally:
        for handle in handles:
            handle.remove()
    return worst


def check_units(reference: nn.Module, pruned: nn.Module, modules: list[str],
                batches: list) -> tuple[str, float]:
    """The part of the model that differs most, and by how much.

    Which queries or boxes a detector looks at may hang on a rounding, and
    then all that follows differs. So if parts of the model differ by more
    than roundings, its modules decide, each with the same input in both.

    Args:
        reference (nn.Module): The masked model, in eval mode.
        pruned (nn.Module): In eval mode.
        modules (list[str]): Names of those that lost units, one per group.
        batches (list): Of the test data.

    Raises:
        VerificationError: If it is more than rounding.
    """
    differences = end_to_end_difference(reference, pruned, batches)
    name = max(differences, key=differences.get)
    allowed = TOLERANCE * len(modules)**0.5
    # NaN is no rounding either
    if all(value <= allowed for value in differences.values()):
        return name, differences[name]
    found = f'{differences[name]:.2g} of the norm of {name}'
    alone = layer_differences(reference, pruned, modules, batches)
    if not (alone.keys() == set(modules) and all(value <= TOLERANCE
                                                 for value in alone.values())):
        raise VerificationError(
            f'{name}: outputs of the pruned model differ from those of the '
            f'masked one by {differences[name]:.2g} of their norm, more than '
            f'{allowed:.2g}. Nothing was written')
    print_log(
        f'The whole models differ by {found}: a choice that the model makes '
        'hangs on a rounding. Their modules agree on the same inputs',
        logger='current')
    name = max(alone, key=alone.get)
    return name, alone[name]


def check_channels(reference: nn.Module, pruned: nn.Module,
                   batches: list) -> tuple[str, float]:
    """The same where parts of the model differ in their channels.

    Raises:
        VerificationError: If it is more than rounding.
    """
    worst = 0.
    for batch in batches:
        batch = pruned.data_preprocessor(copy.deepcopy(batch), False)
        worst = max(worst, largest_difference(pruned, reference, batch))
        if not worst <= CHANNEL_TOLERANCE:
            raise VerificationError(
                'outputs of the pruned model differ from those of the masked '
                f'one by {worst:.2g} of the largest, more than '
                f'{CHANNEL_TOLERANCE:g}. Nothing was written')
    return 'the largest output', worst
