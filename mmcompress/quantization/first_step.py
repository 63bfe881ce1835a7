"""Whether a model does what it was quantized for when it trains."""
import torch
import torch.nn as nn

from .norms import FrozenNorm
from .quantizer import Quantizer


class _FirstStep:
    """Looks after the first training forward, then is gone."""

    def __init__(self, model: nn.Module) -> None:
        self.frozen = [
            name for name, module in model.named_modules()
            if isinstance(module, FrozenNorm)
        ]
        self.handle = model.register_forward_hook(self._end)

    def _end(self, model: nn.Module, args: tuple, output) -> None:
        if not (model.training and torch.is_grad_enabled()):
            return
        self.handle.remove()
        _check_frozen(model, self.frozen)
        unseen = [
            module.path for module in model.modules()
            if isinstance(module, Quantizer) and not module.seen
        ]
        if unseen:
            owners = dict.fromkeys(p.rpartition('.')[0] for p in unseen)
            raise RuntimeError(
                f'{len(unseen)} quantizers were never called in the first '
                'training step, so what they stand for was computed in float: '
                + ', '.join(unseen) +
                '\nSomething else reads these weights, or nothing uses these '
                f'layers. Leave them out: exclude={list(owners)}')


def _check_frozen(model: nn.Module, names: list[str]) -> None:
    """Refuse batch norms that something else stands in for."""
    for name in names:
        norm = model.get_submodule(name)
        if not isinstance(norm, FrozenNorm):
            raise RuntimeError(
                f'{name} was frozen (norms=\'frozen\'), and a '
                f'{type(norm).__name__} stands in its place, which normalises '
                'by the statistics of batches: leave `sync_bn` out of the '
                'config')


def check_first_step(model: nn.Module) -> None:
    """Refuse, in the first training forward, what has no effect.

    That is quantizers that nothing calls, and frozen norms that were replaced.

    Args:
        model (nn.Module): Whose forward is called, in training mode.
    """
    _FirstStep(model)
