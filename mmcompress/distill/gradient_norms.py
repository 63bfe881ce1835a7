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


def gradient_norm(losses: dict[str, Any],
                  tapped: Any,
                  scale: float = 1.0) -> Tensor | None:
    """L2 norm of the gradient of all losses together.

    Parameters get no gradient, so that DDP's reduction is not triggered.

    Args:
        losses (dict): See :func:`gradient_norms`.
        tapped (Any): Where it is measured: recorded outputs of the student.
        scale (float): Factor while deriving; the norm is without it.

    Returns:
        Tensor | None: Scalar; None where there is nothing to derive.
    """
    # at the original of a copy, through which only those who tap it go
    places = [
        getattr(t, 'origin', t) for t in tensors_of(tapped) if t.requires_grad
    ]
    terms = [
        t.mean() for name, loss in losses.items() if 'loss' in name
        for t in tensors_of(loss) if t.requires_grad
    ]
    if not terms or not places:
        return None
    gradients = torch.autograd.grad(
        scale * sum(terms), places, retain_graph=True, allow_unused=True)
    squares = [
        g.detach().to(torch.float32).square().sum() for g in gradients
        if g is not None
    ]
    return sum(squares, terms[0].new_zeros(
        (), dtype=torch.float32)).sqrt() / scale


def gradient_norms(losses: dict[str, Any],
                   tapped: dict[str, Any]) -> dict[str, Tensor]:
    """L2 norm of each loss's gradient at what each distillation loss taps.

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
        for name, loss in losses.items():
            norm = gradient_norm({name: loss}, value)
            if norm is not None:
                norms[f'gradient.{short_name(name)}@{short_name(tap)}'] = norm
    return norms
