"""Scales of symmetric ranges that fit data."""
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from .quantizer import Summary

# of the scale that clips nothing
_FRACTIONS = torch.linspace(0.2, 1, 41)


def mse_scale(rows: Tensor,
              summary: Summary,
              low: int,
              high: int,
              sync: bool,
              importance: Tensor | float = 1.) -> Tensor:
    """The scale with the least squared error, of each row.

    Args:
        rows (Tensor): Shape (K, M).
        summary (Summary): Of them, over all processes.
        low (int): The least code.
        high (int): The largest code.
        sync (bool): Whether other processes have other data.
        importance (Tensor | float): Factors of squared errors, shape (K, M).

    Returns:
        Tensor: Positive, shape (K, ).
    """
    widest = summary.largest / high
    if low < 0:
        widest = torch.maximum(widest, summary.least / low)
    # of a row of zeros
    widest = torch.where(widest > 0, widest, 1)
    errors = torch.stack([
        _squared_error(rows, fraction * widest, low, high, importance)
        for fraction in _FRACTIONS.tolist()
    ])
    if sync:
        all_reduce(errors, 'sum')
    fractions = _FRACTIONS.to(widest)[errors.argmin(0)]
    return fractions * widest


def _squared_error(rows: Tensor, scale: Tensor, low: int, high: int,
                   importance: Tensor | float) -> Tensor:
    scale = scale[:, None]
    codes = (rows / scale).round_().clamp_(low, high)
    return codes.mul_(scale).sub_(rows).square_().mul_(importance).sum(1)
