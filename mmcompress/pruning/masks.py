"""Masks of units: a model computes as if some were smaller, or gone.

A search lowers them from 1 to 0. They are buffers, so they are in its
checkpoints; :func:`masks_of` reads them.
"""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.lowbit.replace import own_forward
from .units import Units, find_units


class UnitMask(nn.Module):
    """Factors of a group's units, a child of all layers that produce them.

    Loading a checkpoint that has none leaves them as they are.

    Args:
        num (int): Number of units.
        like (Tensor): A parameter, for device and type; masks are float32 at
            least.
    """

    def __init__(self, num: int, like: Tensor) -> None:
        super().__init__()
        options = dict(
            dtype=torch.promote_types(like.dtype, torch.float32),
            device=like.device)
        #: From 1 to 0, shape (num, ).
        self.register_buffer('value', torch.ones(num, **options))
        #: Sum of the loss's gradients, one per optimizer step.
        self.register_buffer('gradient', torch.zeros(num, **options))

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        for name, value in self.state_dict().items():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _masked(layer: nn.Module, key: str) -> Tensor | None:
    """A parameter, each row multiplied with its unit's mask.

    Not what the layer returns: a row's factor is then the same whatever type
    the products are in, and small where there are many tokens.
    """
    parameter = layer._parameters[key]
    if parameter is None:
        return None
    rows = layer.unit_mask.value[getattr(layer, f'{key}_unit')]
    return parameter * rows.to(parameter.dtype).view(
        -1, *[1] * (parameter.dim() - 1))


class MaskedLinear(nn.Linear):
    """:class:`torch.nn.Linear` whose output features have masks."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``mask * (weight x + bias)``, shape (..., out_features)."""
        return F.linear(x, _masked(self, 'weight'), _masked(self, 'bias'))


def _read_masked(key: str) -> property:
    return property(lambda layer: _masked(layer, key))


class MaskedMultiheadAttention(nn.MultiheadAttention):
    """:class:`torch.nn.MultiheadAttention` whose channels have masks.

    Its attributes are the masked parameters, since much besides ``forward``
    reads them; ``named_parameters()`` has those that are trained.
    """

    in_proj_weight = _read_masked('in_proj_weight')
    in_proj_bias = _read_masked('in_proj_bias')
    q_proj_weight = _read_masked('q_proj_weight')
    k_proj_weight = _read_masked('k_proj_weight')
    v_proj_weight = _read_masked('v_proj_weight')


_MASKED = {
    nn.Linear: MaskedLinear,
    nn.MultiheadAttention: MaskedMultiheadAttention
}


def _masked_class(layer: nn.Module, name: str) -> type[nn.Module]:
    if hasattr(layer, 'unit_mask'):
        raise ValueError(f'{name} has masks already: two steps select it, or '
                         'two groups of units have it')
    for base, masked in _MASKED.items():
        if isinstance(layer, base) and own_forward(type(layer), base) is None:
            return masked
    raise TypeError(
        f'{name}: nothing is known that masks the features of '
        f'{type(layer).__name__}; known are nn.Linear and '
        'nn.MultiheadAttention, in float. Exclude it, and mask before other '
        'steps change the layer')


@dataclass
class _Rows:
    """Which unit each row of a parameter belongs to."""
    layer: nn.Module
    key: str
    unit: Tensor


def _producers(units: Units, model: nn.Module) -> list[_Rows]:
    """All rows that produce units of a group."""
    found = []
    for layer, key, dim, index in units.slots(model):
        if dim == 0:
            parameter = layer._parameters[key]
            if index.numel() != len(parameter):
                raise ValueError(f'{units.name}: its units are not all rows '
                                 f'of {key} of a {type(layer).__name__}')
            unit = torch.empty_like(index).flatten()
            unit[index] = torch.arange(
                len(index), device=index.device)[:, None]
            found.append(_Rows(layer, key, unit.to(parameter.device)))
    return found


def add_masks(model: nn.Module,
              groups: list[Units],
              copies: dict[str, str] | None = None) -> None:
    """Give groups of units masks of 1, in place.

    Args:
        model (nn.Module): The model.
        groups (list[Units]): Some of :func:`find_units`.
        copies (dict[str, str] | None): By the name of a group that of another
            whose mask it has, too.

    Raises:
        TypeError: If a layer's class can't be masked. Nothing is changed
            then.
    """
    copies = copies or {}
    rows_of = {units.name: _producers(units, model) for units in groups}
    names = {id(module): name for name, module in model.named_modules()}
    classes = {
        id(rows.layer): _masked_class(rows.layer, names[id(rows.layer)])
        for all_rows in rows_of.values()
        for rows in all_rows
    }
    masks = {
        units.name:
        UnitMask(units.num, next(rows_of[units.name][0].layer.parameters()))
        for units in groups
    }
    for name, all_rows in rows_of.items():
        for rows in all_rows:
            rows.layer.__class__ = classes[id(rows.layer)]
            rows.layer.unit_mask = masks[copies.get(name, name)]
            rows.layer.register_buffer(
                f'{rows.key}_unit', rows.unit, persistent=False)


def masked_units(model: nn.Module) -> list[tuple[Units, UnitMask]]:
    """The groups of a model that have masks, and these."""
    found = []
    for units in find_units(model):
        for layer, _, dim, _ in units.slots(model):
            if dim == 0 and hasattr(layer, 'unit_mask'):
                found.append((units, layer.unit_mask))
                break
    return found


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Masks by the name of their group, as :func:`find_units` has it.

    After a search they are 1, for units that stay, or exactly 0.

    Args:
        model (nn.Module): That the step :class:`MaskUnits` changed, perhaps a
            part of it.

    Returns:
        dict[str, Tensor]: Shape (number of units, ) each; empty if the model
        has no masks.
    """
    return {units.name: mask.value for units, mask in masked_units(model)}
