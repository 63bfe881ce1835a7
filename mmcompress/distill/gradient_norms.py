"""How strongly each loss pulls at the student's taps."""
from typing import Any

import torch
from torch import Tensor

from .taps import tensors_of


def short_name(loss: str) -> str:
    """Name of a loss in the keys of :func:`gradient_norms`.

    Args:
        loss (str): Key of a loss dict, such as ``loss_cls``.

    Returns:
        str: Without ``loss``, since mmengine adds up all such keys; ``task``
        where the name is nothing else.
    """
    return loss.replace('loss_', '').replace('loss', '') or 'task'


def gradient_norms(losses: dict[str, Any],
                   tapped: dict[str, Any]) -> dict[str, Tensor]:
    """L2 norm of each loss's gradient at what each distillation loss taps.

    Parameters get no gradient, so that DDP's reduction is not triggered.

    Args:
        losses (dict): Loss dict of a step; a value is a tensor or a list of
            tensors. Statistics, without ``loss`` in their name, are skipped.
        tapped (dict): Recorded outputs of the student by name of the
            distillation loss that taps them, nested as they come.

    Returns:
        dict[str, Tensor]: Scalars by ``gradient.<loss>@<tapping loss>``.
        Without ``loss`` in the names: mmengine would add those up.
    """
    norms = {}
    for tap, value in tapped.items():
        outputs = [t for t in tensors_of(value) if t.requires_grad]
        for name, loss in losses.items():
            terms = [t.mean() for t in tensors_of(loss) if t.requires_grad]
            if 'loss' not in name or not terms or not outputs:
                continue
            gradients = torch.autograd.grad(
                sum(terms), outputs, retain_graph=True, allow_unused=True)
            squares = [
                g.detach().to(torch.float32).square().sum() for g in gradients
                if g is not None
            ]
            key = f'gradient.{short_name(name)}@{short_name(tap)}'
            zero = torch.zeros((), device=outputs[0].device)
            norms[key] = sum(squares, zero).sqrt()
    return norms
