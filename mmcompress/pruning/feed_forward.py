"""Units of feed-forward networks: what stands between two linear layers."""
from collections.abc import Callable, Iterator

import torch
import torch.nn as nn
from torch import Tensor

from .units import Member, Units, units_of


def hidden_units(
        name: str,
        module: str,
        first: str,
        second: str,
        num: int,
        shrink: Callable[[nn.Module, int], None] | None = None) -> Units:
    """A group of hidden units.

    Args:
        name (str): Of the group.
        module (str): Of the module of the rule.
        first (str): The layer that computes them, below the module.
        second (str): The layer that reads them.
        num (int): How many there are.
        shrink (Callable | None): See :class:`Units`. Defaults to nothing.
    """
    index = torch.arange(num, device='cpu')[:, None]
    members = (Member(first, ('weight', 'bias'), 0,
                      index), Member(second, ('weight', ), 1, index))
    return Units(name, module, 'mlp', members, shrink or _nothing)


def keeps_zero(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether a unit that is 0 before an activation is 0 behind it.

    If not, to remove it would change more than to mask it. Activations with
    numbers for each channel are left out as well.
    """
    if isinstance(activation, nn.Module) and list(activation.parameters()):
        return False
    with torch.no_grad():
        # also where models are built on another device, such as meta
        return not activation(torch.zeros(1, device='cpu')).any()


def _nothing(module: nn.Module, num: int) -> None:
    """Shapes of its layers are all that it knows."""


def _shrink_ffn(ffn: nn.Module, num: int) -> None:
    ffn.feedforward_channels = num


@units_of('mmcv.cnn.bricks.transformer.FFN',
          'mmpretrain.models.backbones.deit3.DeiT3FFN')
def _ffn(ffn: nn.Module, name: str) -> Iterator[Units]:
    for i in range(ffn.num_fcs - 1):
        linear, activation = ffn.layers[i][:2]
        if not keeps_zero(activation):
            continue
        last = i == ffn.num_fcs - 2
        only = ffn.num_fcs == 2
        yield hidden_units(
            name if only else f'{name}.layers.{i}',
            name,
            f'layers.{i}.0',
            f'layers.{i + 1}' + ('' if last else '.0'),
            linear.out_features,
            shrink=_shrink_ffn if only else None)


@units_of('mmpretrain.models.utils.clip_generator_helper.'
          'ResidualAttentionBlock')
def _clip(block: nn.Module, name: str) -> Iterator[Units]:
    if keeps_zero(block.mlp.gelu):
        yield hidden_units(f'{name}.mlp', f'{name}.mlp', 'c_fc', 'c_proj',
                           block.mlp.c_fc.out_features)
