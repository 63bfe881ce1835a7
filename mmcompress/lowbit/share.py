"""Which share of a model's weights and operations is low-bit."""
import logging

import torch
import torch.nn as nn
from mmengine.logging import print_log

from .layer import FLOAT_LAYERS, LowBitLayer, weight_macs

# below it, most of the model is as it was
_HALF = 0.5


def _layers(model: nn.Module) -> list[nn.Module]:
    """What multiplies, but products of activations that are float."""
    return [
        m for name, m in model.named_modules()
        if isinstance(m, (LowBitLayer,
                          *FLOAT_LAYERS)) and name.split('.')[0] != 'distill'
    ]


def _say(share: float, what: str, remedy: str) -> None:
    text = f'{share:.0%} of the {what} are low-bit'
    if share < _HALF:
        print_log(f'Only {text}. {remedy}', 'current', logging.WARNING)
    else:
        print_log(text, 'current')


def _left(counts: dict[nn.Module, int]) -> str:
    """The classes of the float layers that count most."""
    by_class: dict[str, int] = {}
    for layer, count in counts.items():
        if not isinstance(layer, LowBitLayer):
            name = type(layer).__name__
            by_class[name] = by_class.get(name, 0) + count
    largest = sorted(by_class.items(), key=lambda item: -item[1])
    total = sum(counts.values()) or 1
    parts = [f'{name} {count / total:.0%}' for name, count in largest[:3]]
    return f'As they were: {", ".join(parts)}' if parts else ''


def _say_share(counts: dict[nn.Module, int], what: str) -> None:
    total = sum(counts.values())
    low = sum(
        count for layer, count in counts.items()
        if isinstance(layer, LowBitLayer) and layer.operand_bits().are_low)
    if total:
        _say(low / total, what, _left(counts))


class _CountOnce:
    """Counts the operations of the first training forward, then is gone."""

    def __init__(self, model: nn.Module) -> None:
        self.counts: dict[nn.Module, int] = {}
        self.handles = [
            model.register_forward_pre_hook(self._start),
            model.register_forward_hook(self._end)
        ]
        self.inner: list = []

    def _start(self, model: nn.Module, args: tuple) -> None:
        if (model.training and not self.inner
                and not torch.compiler.is_compiling()):
            self.inner = [
                layer.register_forward_hook(self._count, with_kwargs=True)
                for layer in _layers(model)
            ]

    def _count(self, layer: nn.Module, args: tuple, kwargs: dict,
               output) -> None:
        args = *args, *kwargs.values()
        if isinstance(layer, LowBitLayer):
            macs = layer.macs(args, output)
        else:
            macs = weight_macs(layer, args, output)
        self.counts[layer] = self.counts.get(layer, 0) + macs

    def _end(self, model: nn.Module, args: tuple, output) -> None:
        if not self.inner:
            return
        for handle in (*self.inner, *self.handles):
            handle.remove()
        _say_share(self.counts, "operations of the model's layers")


def announce_share(model: nn.Module) -> None:
    """Print the share of weights now, that of operations once it trains.

    Args:
        model (nn.Module): Without low-bit layers, nothing is printed.
    """
    if not any(isinstance(m, LowBitLayer) for m in model.modules()):
        return
    weights = {
        layer: sum(p.numel() for p in layer.parameters(recurse=False))
        for layer in _layers(model)
    }
    _say_share(weights, "model's weights")
    _CountOnce(model)
