"""Perturbation of features along the gradient of the uncertainty (UR).

Part of UGS, the second version of C-BBL (arXiv 2303.01803v2). The form of the
perturbation and its two numbers are the paper's, by second hand; what the
norm is taken over, that the perturbation has no gradient, and what is
computed on perturbed features are reconstructed.
"""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .losses import Record, TwoHotLocalizationLoss


def check_ugs(ugs: dict | None) -> dict | None:
    """Options of the perturbation, complete.

    Args:
        ugs (dict | None): ``gamma``, the weight of the loss on perturbed
            features, by default 0.1, and ``rho``, the length of a level's
            perturbation, by default 0.5. None is off.

    Raises:
        TypeError: If it is no dict.
        ValueError: If a key is unknown or a value out of range.
    """
    if ugs is None:
        return None
    if not isinstance(ugs, dict):
        raise TypeError('ugs must be a dict, such as dict(gamma=0.1, rho=0.5)'
                        f', or None, got {ugs!r}')
    unknown = sorted(set(ugs) - {'gamma', 'rho'})
    if unknown:
        raise ValueError(f'ugs knows gamma and rho, got {unknown}')
    ugs = dict(gamma=0.1, rho=0.5) | dict(ugs)
    if not 0 <= ugs['gamma'] < float('inf'):
        raise ValueError('gamma of ugs must be at least 0 and finite, got '
                         f'{ugs["gamma"]}')
    if not 0 < ugs['rho'] < float('inf'):
        raise ValueError('rho of ugs must be positive and finite, got '
                         f'{ugs["rho"]}')
    return ugs


def perturbations(doubt: Tensor,
                  levels: Sequence[Tensor],
                  rho: float = 0.5,
                  eps_norm: float = 1e-12) -> list[Tensor]:
    """``eps_i = rho g_i / (||g_i||_2 + eps_norm)``, ``g_i = d UM / d P_i``.

    Reconstructed: the norm is over a whole level, all images included, and
    the result is a constant.

    Args:
        doubt (Tensor): Scalar UM, whose graph is kept.
        levels (Sequence[Tensor]): Features, shape (N, C, H, W) each, with
            gradient. A level without influence gets zeros.
        rho (float): Length of a perturbation.
        eps_norm (float): Keeps zero gradients finite.

    Returns:
        list[Tensor]: Without gradient, shapes of the levels.
    """
    gradients = torch.autograd.grad(
        doubt, levels, retain_graph=True, allow_unused=True)
    result = []
    for gradient, level in zip(gradients, levels):
        if gradient is None:
            result.append(torch.zeros_like(level))
            continue
        # the sum of squares of half precision overflows or underflows
        g = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        eps = rho * g / (torch.linalg.vector_norm(g) + eps_norm)
        result.append(eps.to(level.dtype))
    return result


def with_gradient(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The levels; those of a frozen neck as leaves with a gradient."""
    return tuple(x if x.requires_grad else x.detach().requires_grad_()
                 for x in levels)


def perturbed(record: Record, levels: Sequence[Tensor],
              rho: float) -> tuple[Tensor, ...]:
    """The levels, moved to where the predictions are less certain.

    Args:
        record (Record): What the loss saw, with graph, on these levels.
        levels (Sequence[Tensor]): Of :func:`with_gradient`.
        rho (float): Length of a level's perturbation.
    """
    doubt = sum(record.uncertainty)
    return tuple(x + eps
                 for x, eps in zip(levels, perturbations(doubt, levels, rho)))


def loss_of_rows(loss: TwoHotLocalizationLoss, rows: Sequence[Tensor],
                 record: Record) -> Tensor:
    """The loss of other logits, with the targets of an earlier pass.

    Args:
        loss (TwoHotLocalizationLoss): The loss.
        rows (Sequence[Tensor]): Logits for each recorded call.
        record (Record): Of the earlier pass.

    Returns:
        Tensor: Scalar, the sum over the calls.
    """
    return sum(
        loss(logits, target, weight, avg_factor)
        for logits, (target, weight,
                     avg_factor) in zip(rows, record.inputs, strict=True))


def dense_losses(head, x: Sequence[Tensor],
                 first_pass: Callable) -> tuple[object, Tensor | None]:
    """A pass of a dense head, and the loss on perturbed features.

    Args:
        head (nn.Module): Dense head of this package.
        x (Sequence[Tensor]): Levels of the neck.
        first_pass (Callable): Takes the levels, and calls ``head.loss_bbox``.

    Returns:
        tuple[object, Tensor | None]: What ``first_pass`` returns, and
        ``gamma L_ur``; None without ``ugs`` or with a gamma of 0.
    """
    if not head.ugs or not head.ugs['gamma'] or not torch.is_grad_enabled():
        return first_pass(x), None
    levels = with_gradient(x)
    with head.loss_bbox.recording() as record:
        result = first_pass(levels)
    _, bbox_preds, *_ = head(perturbed(record, levels, head.ugs['rho']))
    loss_ur = loss_of_rows(head.loss_bbox, head.logit_rows(bbox_preds), record)
    return result, head.ugs['gamma'] * loss_ur
