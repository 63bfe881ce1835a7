"""The step that gives a model the channels that pruning left."""
import difflib

import torch.nn as nn
from mmengine.logging import print_log
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.lowbit import LowBitLayer
from mmcompress.model.config import without_downloads
from mmcompress.registry import STEPS
from mmcompress.tables import format_table
from .labels import is_depthwise
from .structure import carry_structure

_CONVS = (nn.Conv2d, nn.ConvTranspose2d)
_LAYERS = (*_CONVS, nn.Linear, _BatchNorm)


def sizes_of(layer: nn.Module) -> tuple[int, int] | int:
    """Channels that a layer reads and produces; of a norm, one number."""
    if isinstance(layer, _BatchNorm):
        return layer.num_features
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def set_sizes(layer: nn.Module) -> None:
    """Let a layer's attributes say how large its parameters are."""
    if isinstance(layer, _BatchNorm):
        known = [
            t for t in (layer.weight, layer.running_mean) if t is not None
        ]
        if known:
            layer.num_features = len(known[0])
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.ConvTranspose2d):
        layer.in_channels = layer.weight.size(0)
        layer.out_channels = layer.weight.size(1) * layer.groups
    elif is_depthwise(layer):
        num = layer.weight.size(0)
        layer.in_channels = layer.out_channels = layer.groups = num
    else:
        layer.out_channels = layer.weight.size(0)
        layer.in_channels = layer.weight.size(1) * layer.groups


def _narrow(layer: nn.Module, key: str, *sizes: int) -> None:
    """Keep the first numbers along the first dimensions of a parameter."""
    tensor = getattr(layer, key)
    if tensor is None:
        return
    part = tensor.detach()
    for dim, size in enumerate(sizes):
        part = part.narrow(dim, 0, size)
    part = part.clone()
    if isinstance(tensor, nn.Parameter):
        part = nn.Parameter(part, tensor.requires_grad)
    setattr(layer, key, part)


def _resize(layer: nn.Module, sizes: tuple[int, int] | int) -> None:
    if isinstance(layer, _BatchNorm):
        for key in ('weight', 'bias', 'running_mean', 'running_var'):
            _narrow(layer, key, sizes)
    else:
        num_in, num_out = sizes
        if isinstance(layer, nn.ConvTranspose2d):
            _narrow(layer, 'weight', num_in, num_out)
        elif is_depthwise(layer):
            _narrow(layer, 'weight', num_out)
        else:
            _narrow(layer, 'weight', num_out, num_in)
        _narrow(layer, 'bias', num_out)
    set_sizes(layer)


def _check(name: str, layer: nn.Module, sizes: tuple[int, int] | int) -> None:
    """Refuse what a layer can't become, in words."""
    key = f'channels[{name!r}]'
    kind = type(layer).__name__
    if isinstance(layer, LowBitLayer):
        raise TypeError(
            f'{key}: {kind} is low-bit: put KeepChannels before the step that '
            'quantizes')
    if not isinstance(layer, _LAYERS):
        raise TypeError(
            f'{key}: {kind} is no convolution, linear layer or batch norm')
    has = sizes_of(layer)
    wanted = ('one number' if isinstance(has, int) else
              'a pair (channels read, channels produced)')
    if isinstance(has, int):
        numbers, limits = [sizes], [has]
    else:
        numbers, limits = sizes, has
    if (not isinstance(numbers, list | tuple) or len(numbers) != len(limits)
            or not all(isinstance(n, int) for n in numbers)):
        raise TypeError(f'{key}: {kind} takes {wanted}, got {sizes!r}')
    if not all(0 < n <= limit for n, limit in zip(numbers, limits)):
        raise ValueError(
            f'{key}: {sizes!r} can not remain of {has!r}; the model of this '
            'step is the one before pruning')
    groups = getattr(layer, 'groups', 1)
    if is_depthwise(layer):
        if len(set(numbers)) > 1:
            raise ValueError(f'{key}: a depthwise convolution produces as '
                             f'many channels as it reads, got {sizes!r}')
    elif groups > 1:
        raise ValueError(f'{key}: a convolution of {groups} groups can not be '
                         'cut')


@STEPS.register_module()
class KeepChannels:
    """Step that gives layers fewer channels, as pruning left them.

    The model gets its shapes when it is built, so that the pruned checkpoint
    loads, and all else is as with any model: training, resuming, distilling,
    quantizing by a later step. ``tools/deploy/prune.py`` writes the config.
    What ``init_cfg`` would load into parts of the dense model is not loaded.

    Args:
        channels (dict[str, tuple[int, int] | int]): By name of each layer
            that has fewer channels than in the model's config: how many a
            convolution or linear layer reads and produces; how many a batch
            norm has.

    Raises:
        ValueError: If nothing is named, or what is named isn't there or
            is smaller.
        TypeError: If a layer is of another kind.
    """

    def __init__(self, channels: dict[str, tuple[int, int] | int]) -> None:
        if not channels:
            raise ValueError('channels names no layer: leave the step out')
        self.channels = dict(channels)

    def __call__(self, model: nn.Module) -> None:
        """Change a model in place and say how.

        Args:
            model (nn.Module): As its config builds it.
        """
        layers = dict(model.named_modules(remove_duplicate=False))
        for name, sizes in self.channels.items():
            if name not in layers:
                close = difflib.get_close_matches(name, layers, 3, 0.3)
                raise ValueError(
                    f'channels: {type(model).__name__} has no layer {name!r}; '
                    f'closest: {", ".join(close)}')
            _check(name, layers[name], sizes)
        rows = []
        for name, sizes in self.channels.items():
            layer = layers[name]
            if not isinstance(layer, _BatchNorm):
                rows.append([
                    name,
                    type(layer).__name__,
                    *(f'{before} -> {after}'
                      for before, after in zip(sizes_of(layer), sizes))
                ])
            _resize(layer, sizes)
        carry_structure(model, [
            f'{name}.{key}' for name in self.channels
            for key in ('weight', 'bias', 'running_mean', 'running_var')
            if getattr(layers[name], key, None) is not None
        ])
        without_downloads(model)
        title = f'Keeps fewer channels in {len(self.channels)} layers'
        print_log(
            format_table(title, ['layer', 'is', 'reads', 'produces'], rows),
            logger='current')
