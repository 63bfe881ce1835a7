"""What of a model trains: freezing by a list, and norms as in testing."""
import torch.nn as nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.selection import match_modules

# what distillation adds to a model is none of the pretrained one
_ADDED = 'distill.'


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Freeze parameters, and unfreeze some of them.

    Args:
        model (nn.Module): Changed in place.
        patterns (list[str]): Applied in this order; what is selected is
            frozen, or with ``~`` in front, trains. See
            :func:`mmcompress.selection.selects`; ``'*'`` is everything.

    Raises:
        ValueError: If a pattern selects nothing.
    """
    for pattern in patterns:
        trains = pattern.startswith('~')
        names = match_modules(model, nn.Module, [pattern.removeprefix('~')],
                              [], 'freeze')
        for name in names:
            for parameter in model.get_submodule(name).parameters(False):
                parameter.requires_grad_(trains)


class KeepNormsInEval:
    """Forward pre-hook that has batch norms compute as in testing.

    A model's ``train()`` would put them into training mode, and few heads
    have a ``norm_eval``. Norms are found by their names each time, since
    those of several processes replace others.

    Args:
        names (list[str]): Of the batch norms.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, model: nn.Module, args: tuple) -> None:
        """Before each forward of the whole model."""
        if model.training:
            for name in self.names:
                model.get_submodule(name).eval()


def keep_norms_in_eval(model: nn.Module) -> int:
    """Have all batch norms of a model use their running statistics.

    Args:
        model (nn.Module): As a whole; ``model(...)`` has to be what is called.

    Returns:
        int: How many.

    Raises:
        ValueError: If it has none.
    """
    names = [
        name for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not name.startswith(_ADDED)
    ]
    if not names:
        raise ValueError(f'norm_eval: {type(model).__name__} has no batch '
                         'norms')
    model.register_forward_pre_hook(KeepNormsInEval(names))
    return len(names)


def trained_share(model: nn.Module) -> str:
    """How many of a model's parameters train, in words."""
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    return f'{trained:,} of {total:,} parameters train'
