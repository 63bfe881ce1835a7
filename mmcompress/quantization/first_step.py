"""Whether a model calls all of its quantizers when it trains."""
import torch
import torch.nn as nn

from .quantizer import Quantizer


class _FirstStep:
    """Looks after the first training forward, then is gone."""

    def __init__(self, model: nn.Module) -> None:
        self.handle = model.register_forward_hook(self._end)

    def _end(self, model: nn.Module, args: tuple, output) -> None:
        if not (model.training and torch.is_grad_enabled()):
            return
        self.handle.remove()
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


def check_first_step(model: nn.Module) -> None:
    """Refuse, in the first training forward, quantizers that nothing calls.

    Args:
        model (nn.Module): Whose forward is called, in training mode.
    """
    _FirstStep(model)
