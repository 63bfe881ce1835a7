"""Pruned weights in files: only a model of their structure takes them.

mmengine warns of shapes that differ, and goes on with random weights. The
config of the dense model knows nothing of this package, so the weights
themselves have to refuse.
"""
from collections.abc import Iterable
from typing import NoReturn

import torch
import torch.nn as nn
from torch import Tensor

_REMEDY = ('Use the config that tools/deploy/prune.py wrote beside the '
           'checkpoint, or its step mmcompress.KeepUnits or KeepChannels')


class PrunedTensor:
    """A tensor in a checkpoint, which a model loads only if it expects one.

    To any other it looks like a tensor until its shape is asked for, which is
    the first thing that loading does.

    Args:
        name (str): Of the parameter.
        tensor (Tensor): Its value.
    """

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.tensor = tensor

    def _refuse(self) -> NoReturn:
        raise RuntimeError(
            f'the checkpoint is of a pruned model: {self.name} has shape '
            f'{tuple(self.tensor.shape)} in it, and the config is not of that '
            f'model. {_REMEDY}')

    @property
    def shape(self) -> NoReturn:
        """Refused."""
        self._refuse()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None) -> NoReturn:
        """Refused, whatever is computed."""
        next(arg for arg in args if isinstance(arg, cls))._refuse()


# they are data, for `torch.load(weights_only=True)`
torch.serialization.add_safe_globals([PrunedTensor])


def plain_tensor(value: Tensor | PrunedTensor) -> Tensor | PrunedTensor:
    """The tensor, however a file has it; anything else as it is."""
    return value.tensor if isinstance(value, PrunedTensor) else value


def carry_structure(model: nn.Module, names: Iterable[str]) -> None:
    """Let a model load pruned weights, and none of other shapes.

    Args:
        model (nn.Module): Pruned.
        names (Iterable[str]): Of its parameters and buffers that are smaller
            than in the dense model.
    """
    if not hasattr(model, 'pruned_names'):
        model.pruned_names = []
        model.register_load_state_dict_pre_hook(_unwrap)
    model.pruned_names += names


def _unwrap(model: nn.Module, state_dict: dict, prefix: str, *args) -> None:
    """Load hook: take what was marked, and check it."""
    own = model.state_dict()
    for name in model.pruned_names:
        key = prefix + name
        value = plain_tensor(state_dict.get(key))
        if not isinstance(value, Tensor):
            continue
        if name in own and own[name].shape != value.shape:
            raise RuntimeError(
                f'{key} has shape {tuple(value.shape)} in the checkpoint and '
                f'{tuple(own[name].shape)} in the model, which is pruned: the '
                'checkpoint is dense, or pruned in another way. Prune a dense '
                'one by tools/deploy/prune.py, and use the config that it '
                'writes')
        state_dict[key] = value


def mark_pruned(model: nn.Module, state_dict: dict, part: str = '') -> None:
    """Mark the pruned weights of a model in what is written to a file.

    Args:
        model (nn.Module): The model, of which parts may be pruned.
        state_dict (dict): Of it; changed.
        part (str): Name of the part of the model that the state dict is of.
    """
    start = f'{part}.'.lstrip('.')
    for prefix, module in model.named_modules():
        for name in vars(module).get('pruned_names', ()):
            path = f'{prefix}.{name}'.strip('.')
            key = path.removeprefix(start)
            value = state_dict.get(key)
            if path.startswith(start) and isinstance(value, Tensor):
                state_dict[key] = PrunedTensor(key, value)
