"""Focal losses and their gradients, as mmcv's kernels define them.

The compiled mmcv has these operators for GPUs only.
"""
import torch
from torch import Tensor

# below it, logarithms are cut off
TINY = torch.finfo(torch.float32).tiny


def _weigh(values: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Multiply rows by their class's weight.

    Args:
        values (Tensor): Shape (N, K) or (N, ).
        weight (Tensor): Shape (K, ), or empty for none.
        target (Tensor): Classes, shape (N, ).

    Raises:
        ValueError: If a target has no weight.
    """
    if weight.numel() == 0:
        return values
    if target.numel() and not (0 <= int(target.min())
                               and int(target.max()) < len(weight)):
        raise ValueError(f'targets from {int(target.min())} to '
                         f'{int(target.max())} with weights for '
                         f'{len(weight)} classes: each needs one')
    factor = weight[target]
    return values * factor.view(-1, *[1] * (values.dim() - 1))


def _is_class(input: Tensor, target: Tensor) -> Tensor:
    """One-hot targets; a row of zeros for the background. Shape (N, K)."""
    return target[:, None] == torch.arange(input.size(1), device=target.device)


@torch.no_grad()
def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor,
                               output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Write the loss of every logit into ``output``.

    Args:
        input (Tensor): Logits, shape (N, K).
        target (Tensor): Classes, K for background, shape (N, ).
        weight (Tensor): Of the classes, shape (K, ), or empty.
        output (Tensor): Shape (N, K).
        gamma (float): Exponent of the focus.
        alpha (float): Weight of the positive part.
    """
    p = 1 / (1 + torch.exp(-input))
    positive = (1 - p)**gamma * p.clamp(min=TINY).log()
    negative = p**gamma * (1 - p).clamp(min=TINY).log()
    loss = torch.where(
        _is_class(input, target), -alpha * positive, -(1 - alpha) * negative)
    output.copy_(_weigh(loss, weight, target))


@torch.no_grad()
def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor,
                                grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Write the loss's derivative by every logit into ``grad_input``."""
    p = 1 / (1 + torch.exp(-input))
    positive = (1 - p)**gamma * (1 - p - gamma * p * p.clamp(min=TINY).log())
    negative = p**gamma * (gamma * (1 - p) * (1 - p).clamp(min=TINY).log() - p)
    grad = torch.where(
        _is_class(input, target), -alpha * positive, -(1 - alpha) * negative)
    grad_input.copy_(_weigh(grad, weight, target))


def _target_probability(probability: Tensor, target: Tensor) -> Tensor:
    """Probability of each row's class; negative targets are ignored later."""
    return probability.gather(1, target.clamp(min=0)[:, None])[:, 0]


@torch.no_grad()
def softmax_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor,
                               output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Write the loss of every row into ``output``.

    Args:
        input (Tensor): Probabilities, the softmax of the logits, (N, K).
        target (Tensor): Classes; negative ones have no loss. Shape (N, ).
        weight (Tensor): Of the classes, shape (K, ), or empty.
        output (Tensor): Shape (N, ).
        gamma (float): Exponent of the focus.
        alpha (float): Factor.
    """
    p = _target_probability(input, target)
    loss = -alpha * (1 - p)**gamma * p.clamp(min=TINY).log()
    output.copy_(_weigh(loss.masked_fill(target < 0, 0), weight, target))


@torch.no_grad()
def softmax_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor,
                                buff: Tensor, grad_input: Tensor, gamma: float,
                                alpha: float) -> None:
    """Write the derivative by every logit into ``grad_input``, (N, K).

    Args:
        input (Tensor): Probabilities, shape (N, K).
        target (Tensor): Shape (N, ).
        weight (Tensor): Shape (K, ), or empty.
        buff (Tensor): Receives the part that a row's logits share, (N, ).
        grad_input (Tensor): Shape (N, K).
        gamma (float): Exponent of the focus.
        alpha (float): Factor.
    """
    p = _target_probability(input, target)
    shared = alpha * (
        gamma * (1 - p)**(gamma - 1) * p * p.clamp(min=TINY).log() -
        (1 - p)**gamma)
    shared = shared.masked_fill(target < 0, 0)
    buff.copy_(_weigh(shared, weight, target))
    grad_input.copy_(buff[:, None] *
                     (_is_class(input, target).to(input) - input))
