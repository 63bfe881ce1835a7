"""What can be removed together: units, and where their numbers stand.

A *unit* is the smallest thing that a model can lose without another shape
outside: a channel of all heads of an attention, a hidden unit of a
feed-forward network. :func:`find_units` lists the groups of such units of a
model; what ranks, masks and removes them knows no architecture.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import Rules


@dataclass(frozen=True)
class Member:
    """Where numbers of a group's units stand in one layer.

    Attributes:
        layer (str): Name of the layer, below the module of the rule; ``''``
            is the module.
        parameters (tuple[str, ...]): Names of its parameters that are cut,
            all along the same dimension.
        dim (int): The dimension: 0 where the layer produces the units, 1
            where it reads them.
        index (Tensor): Positions along that dimension, shape (number of
            units, positions per unit), int64.
    """
    layer: str
    parameters: tuple[str, ...]
    dim: int
    index: Tensor


@dataclass(frozen=True)
class Units:
    """A group of units, of which any number but all can be removed.

    Attributes:
        name (str): Of the group in the model, such as
            ``'backbone.layers.0.attn'``.
        module (str): Name of the module whose rule gave it.
        kind (str): ``'attention'`` or ``'mlp'``; they are ranked as such.
        members (tuple[Member, ...]): Layers that are cut. A parameter stands
            in one group at most along the same dimension.
        shrink (Callable): ``shrink(module, num)`` tells the module, whose
            parameters have been cut, that ``num`` units remain.
    """
    name: str
    module: str
    kind: str
    members: tuple[Member, ...]
    shrink: Callable[[nn.Module, int], None]

    @property
    def num(self) -> int:
        """Number of units."""
        return len(self.members[0].index)

    def slots(self, model: nn.Module) -> Iterator[tuple]:
        """Layer, parameter's name, dimension and index of all that is cut.

        Biases that a layer doesn't have are left out.
        """
        for member in self.members:
            layer = model.get_submodule(self._path(member))
            for key in member.parameters:
                if getattr(layer, key) is not None:
                    yield layer, key, member.dim, member.index

    def names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that are cut, as they are in the model."""
        return [
            f'{self._path(member)}.{key}'.strip('.') for member in self.members
            for key in member.parameters if getattr(
                model.get_submodule(self._path(member)), key) is not None
        ]

    def _path(self, member: Member) -> str:
        return f'{self.module}.{member.layer}'.strip('.')

    def parameters_per_unit(self, model: nn.Module) -> int:
        """How many parameters leave the model with one unit."""
        return sum(
            getattr(layer, key).numel() // getattr(layer, key).size(dim) *
            index.size(1) for layer, key, dim, index in self.slots(model))


#: ``rule(module, name)`` yields the groups of a class of modules.
units_of = Rules('rule of units')


def heads_index(num_heads: int, head_dims: int, copies: int = 1) -> Tensor:
    """Positions of each channel of a head, in all heads and copies.

    Args:
        num_heads (int): Heads.
        head_dims (int): Channels per head.
        copies (int): 3 where queries, keys and values are one tensor.

    Returns:
        Tensor: Shape (head_dims, copies * num_heads), int64.
    """
    return torch.arange(
        copies * num_heads * head_dims, device='cpu').view(-1, head_dims).T


def find_units(model: nn.Module) -> list[Units]:
    """The groups of a model, in the order of its modules."""
    # which import this file
    from . import attentions, bert, feed_forward  # noqa: F401
    found = []
    for name, module in model.named_modules():
        rule = units_of.find(module)
        if rule is not None:
            found += rule(module, name)
    return found
