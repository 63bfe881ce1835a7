"""Take units out of a model."""
from collections.abc import Mapping
from difflib import get_close_matches

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitLayer
from .units import Units, find_units


def known_units(model: nn.Module, names: list[str]) -> dict[str, Units]:
    """The groups of a model that have these names.

    Args:
        model (nn.Module): Any.
        names (list[str]): Of its groups.

    Raises:
        KeyError: If there is no such group; names those that resemble it.
    """
    found = {units.name: units for units in find_units(model)}
    for name in names:
        if name in found:
            continue
        if not found:
            raise ValueError(
                f'{type(model).__name__} has no units that can be removed: '
                'no attention or feed-forward network that is known')
        near = get_close_matches(name, found, n=3, cutoff=0) or list(found)
        raise KeyError(f'{type(model).__name__} has no units {name!r}; it has '
                       f'{len(found)} groups, among them '
                       f'{", ".join(map(repr, near))}')
    return {name: found[name] for name in names}


def _positions(index: Tensor, kept: Tensor, size: int) -> Tensor:
    """What is left of a dimension, in its order."""
    stays = torch.ones(size, dtype=torch.bool, device='cpu')
    stays[index.flatten()] = False
    stays[index[kept].flatten()] = True
    return stays.nonzero().flatten()


def _check_kept(units: Units, kept: Tensor) -> Tensor:
    kept = torch.as_tensor(kept, device='cpu').sort().values
    if kept.dtype != torch.int64 or kept.dim() != 1 or not len(kept):
        raise ValueError(
            f'{units.name}: what is kept must be a list of the numbers of '
            f'units, at least one, got {kept.tolist()}')
    out = kept[0] < 0 or kept[-1] >= units.num
    if out or len(kept.unique()) < len(kept):
        raise ValueError(
            f'{units.name} has the units 0 to {units.num - 1}, each can be '
            f'kept once, got {kept.tolist()}')
    return kept


def _check_layers(model: nn.Module, groups: list[Units]) -> None:
    """Refuse layers that can't be cut, before anything is changed."""
    users: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        users.setdefault(id(parameter), []).append(name)
    for name in dict.fromkeys(n for g in groups for n in g.names(model)):
        path, _, key = name.rpartition('.')
        layer = model.get_submodule(path)
        if isinstance(layer, LowBitLayer):
            raise ValueError(
                f'{path} is quantized by an earlier step, with scales for all '
                'of its channels: let KeepUnits be the first step')
        tied = users.get(id(getattr(layer, key)), [])
        owners = {id(model.get_submodule(n.rpartition('.')[0])) for n in tied}
        if len(owners) > 1:
            raise ValueError(
                f'{" and ".join(tied)} are one parameter: cutting one of the '
                'layers would separate them')


def _cut_tensor(layer: nn.Module, key: str, dim: int,
                positions: Tensor) -> None:
    tensor = getattr(layer, key)
    left = tensor.detach().index_select(dim, positions.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        left = nn.Parameter(left, requires_grad=tensor.requires_grad)
    setattr(layer, key, left)
    if isinstance(layer, nn.Linear) and key == 'weight':
        layer.out_features, layer.in_features = left.shape


def cut(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Remove units of a model, in place.

    What is left computes what the model computes where the units are masked
    with 0. Parameters are new ones: build optimizers afterwards.

    Args:
        model (nn.Module): In float.
        kept (Mapping[str, Tensor]): By the name of a group, the numbers of
            the units that stay, int64, shape (K, ). Groups that aren't named
            stay as they are.

    Raises:
        KeyError: If there is no group of a name.
        ValueError: If none or others are to be kept, or if a layer can't be
            cut. Nothing is changed then.
    """
    groups = known_units(model, list(kept))
    kept = {name: _check_kept(groups[name], kept[name]) for name in kept}
    groups = {
        name: units
        for name, units in groups.items() if len(kept[name]) < units.num
    }
    _check_layers(model, list(groups.values()))
    for name, units in groups.items():
        for layer, key, dim, index in units.slots(model):
            size = getattr(layer, key).size(dim)
            _cut_tensor(layer, key, dim, _positions(index, kept[name], size))
        units.shrink(model.get_submodule(units.module), len(kept[name]))


@torch.no_grad()
def mask(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Let units of a model be 0, in place: it computes what :func:`cut` does.

    Args:
        model (nn.Module): In float.
        kept (Mapping[str, Tensor]): As of :func:`cut`.

    Raises:
        KeyError: If there is no group of a name.
        ValueError: If none or others are to be kept.
    """
    for name, units in known_units(model, list(kept)).items():
        gone = torch.ones(units.num, dtype=torch.bool, device='cpu')
        gone[_check_kept(units, kept[name])] = False
        for layer, key, dim, index in units.slots(model):
            if dim == 0:
                rows = index[gone].flatten()
                tensor = getattr(layer, key)
                tensor[rows.to(tensor.device)] = 0
