"""Remove channels of convolutional networks: which, and how."""
import copy
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.lowbit import LowBitLayer
from mmcompress.selection import selects
from .graph import follow
from .keep_channels import set_sizes, sizes_of
from .labels import Trace, positions
from .units import Member, Units

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, _BatchNorm)
_NORM_KEYS = ('weight', 'bias', 'running_mean', 'running_var')


@dataclass
class Channels:
    """Channels of a model that belong together.

    Attributes:
        groups (list[Units]): Each unit is a channel, in all layers that have
            it. A layer that reads several features, one behind the other, is
            in several groups.
        fixed (dict[str, str]): Layers of which no channel can be removed, and
            why.
    """
    groups: list[Units] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)


def reads(layer: nn.Module, dim: int) -> bool:
    """Whether a layer's weight has what it reads along a dimension."""
    if isinstance(layer, nn.ConvTranspose2d):
        return dim == 0
    return dim == 1


def _tell(model: nn.Module, num: int) -> None:
    for module in model.modules():
        if isinstance(module, _LAYERS):
            set_sizes(module)


def _members(name: str, layer: nn.Module, is_read: bool,
             index: Tensor) -> Iterator[Member]:
    if isinstance(layer, _BatchNorm):
        yield Member(name, _NORM_KEYS, 0, index)
    elif is_read:
        dim = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
        yield Member(name, ('weight', ), dim, index)
    elif isinstance(layer, nn.ConvTranspose2d):
        yield Member(name, ('weight', ), 1, index)
        yield Member(name, ('bias', ), 0, index)
    else:
        yield Member(name, ('weight', 'bias'), 0, index)


def _groups(model: nn.Module, trace: Trace) -> list[Units]:
    """Channels that stand in the same layers are units of one group."""
    together = defaultdict(list)
    for slots in positions(trace):
        signature = tuple((slot, len(found)) for slot, found in slots.items())
        together[tuple(sorted(signature))].append(slots)
    order = {name: i for i, name in enumerate(trace.layers)}
    groups, names = [], Counter()
    for signature, units in together.items():
        members = []
        for name, is_read in sorted((slot for slot, _ in signature),
                                    key=lambda slot: order[slot[0]]):
            index = torch.tensor([unit[name, is_read] for unit in units])
            members += _members(name, model.get_submodule(name), is_read,
                                index)
        name = members[0].layer
        names[name] += 1
        if names[name] > 1:
            # other layers have other parts of its channels
            name = f'{name} ({names[name]})'
        groups.append(Units(name, '', 'channels', tuple(members), _tell))
    return groups


def _run(model: nn.Module, batch: dict) -> Trace:
    """What runs of a model tell, with and without labels."""
    trace = Trace()
    inputs = batch['inputs']
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    follow(model, trace, inputs, lambda: model(**batch, mode='tensor'))
    try:
        # auxiliary heads only run here
        follow(model, trace, inputs, lambda: model(**batch, mode='loss'))
    except Exception as error:
        never = [
            name for name, module in model.named_modules()
            if isinstance(module, _LAYERS) and name not in trace.met
        ]
        if never:
            raise ValueError(
                f'{", ".join(never[:3])} did not run, so that it is not known '
                'whose channels they read: the losses, where they may have '
                f'their part, fail with {type(error).__name__}: {error}'
            ) from error
    return trace


def find_channels(model: nn.Module,
                  batch: dict,
                  exclude: list[str] | None = None) -> Channels:
    """Which channels of a model belong together, by running it.

    Args:
        model (nn.Module): A model of an mm library. It is not changed.
        batch (dict): Preprocessed images with labels, as
            :func:`mmcompress.model.inputs.made_up_batch` makes.
        exclude (list[str] | None): Patterns of layers that keep all channels
            that they produce, such as ``['neck']``, see
            :func:`mmcompress.selection.selects`.

    Raises:
        ValueError: If a model has low-bit layers, a pattern selects nothing,
            or layers never run.
    """
    low = [n for n, m in model.named_modules() if isinstance(m, LowBitLayer)]
    if low:
        raise ValueError(
            f'{low[0]} is low-bit: channels are removed from the float model, '
            'and what remains is quantized (a step behind KeepChannels)')
    model = copy.deepcopy(model)
    # not chained: some backbones return None
    model.eval()
    trace = _run(model, batch)
    for pattern in exclude or ():
        found = [name for name in trace.layers if selects(pattern, name)]
        if not found:
            raise ValueError(f'exclude: {pattern!r} selects no layer of '
                             f'{type(model).__name__} that has channels')
        for name in found:
            trace.labels.fix(trace.layers[name].produces,
                             f'excluded by {pattern!r}')
    fixed = {}
    for name, ends in trace.layers.items():
        reasons = {trace.labels.why(int(label)) for label in ends.produces}
        if None not in reasons:
            fixed[name] = sorted(reasons)[0]
    return Channels(_groups(model, trace), fixed)


def _positions(model: nn.Module, groups: list[Units],
               kept: list[Tensor]) -> Iterator[tuple]:
    """Layer, parameter's name, dimension and positions that go."""
    gone = defaultdict(list)
    for group, keep in zip(groups, kept, strict=True):
        lost = torch.ones(group.num, dtype=torch.bool)
        lost[keep] = False
        for layer, key, dim, index in group.slots(model):
            gone[layer, key, dim].append(index[lost].flatten())
    for (layer, key, dim), found in gone.items():
        yield layer, key, dim, torch.cat(found)


@torch.no_grad()
def cut_channels(model: nn.Module, groups: list[Units],
                 kept: list[Tensor]) -> None:
    """Remove channels in place.

    Args:
        model (nn.Module): The model.
        groups (list[Units]): See :func:`find_channels`.
        kept (list[Tensor]): Of each group, the numbers of the units that
            remain, in increasing order.
    """
    for layer, key, dim, gone in _positions(model, groups, kept):
        tensor = getattr(layer, key)
        remain = torch.ones(tensor.size(dim), dtype=torch.bool)
        remain[gone] = False
        index = remain.nonzero().flatten().to(tensor.device)
        shorter = tensor.index_select(dim, index)
        if isinstance(tensor, nn.Parameter):
            shorter = nn.Parameter(shorter, tensor.requires_grad)
        setattr(layer, key, shorter)
    _tell(model, 0)


@torch.no_grad()
def mask_channels(model: nn.Module, groups: list[Units],
                  kept: list[Tensor]) -> None:
    """Silence channels in place, without removing them.

    What produces them is 0, norms included, and so is what reads them. Such a
    model computes what the one without these channels does.

    Args:
        model (nn.Module): The model.
        groups (list[Units]): See :func:`find_channels`.
        kept (list[Tensor]): See
            :func:`cut_channels`.
    """
    for layer, key, dim, gone in _positions(model, groups, kept):
        if key != 'running_var':
            tensor = getattr(layer, key)
            tensor.index_fill_(dim, gone.to(tensor.device), 0)


def record(dense: nn.Module, pruned: nn.Module) -> dict[str, tuple | int]:
    """What the step ``KeepChannels`` has to be told.

    Args:
        dense (nn.Module): Before.
        pruned (nn.Module): After.

    Returns:
        dict: By the name of each layer that changed, its channels.
    """
    return {
        name: sizes_of(layer)
        for name, layer in pruned.named_modules()
        if isinstance(layer, _LAYERS)
        and sizes_of(layer) != sizes_of(dense.get_submodule(name))
    }
