"""Grid points, two-hot labels, and the coordinate that a distribution means.

A coordinate is a number of any coder: an offset, a logarithm of a ratio, or a
distance. These functions know nothing of boxes.
"""
import math

import torch
from torch import Tensor


def make_grid(alpha: float,
              n: int,
              beta: float | None = None,
              one_sided: bool = False,
              dtype: torch.dtype = torch.float64) -> Tensor:
    """Grid points that classify a coordinate.

    Uniform: ``y_i = -alpha + 2 alpha i / n``. Interval-non-uniform (IN) with
    ``beta``, dense near zero::

        sign(y_i) alpha (exp(beta |y_i|) - 1) / (exp(alpha beta) - 1)

    The one-sided grid, ``alpha i / n`` before ``beta``, is for distances; it
    is a reconstruction, the paper has the two-sided one.

    Args:
        alpha (float): Largest coordinate, of the coder's unit; also the
            smallest, negated, unless ``one_sided``.
        n (int): Number of intervals. An odd two-sided grid has no point at
            zero.
        beta (float | None): Growth of the intervals; None and 0 are uniform.
        one_sided (bool): From 0 instead of ``-alpha``.
        dtype (torch.dtype): Of the result.

    Returns:
        Tensor: Strictly increasing, shape (n + 1, ).

    Raises:
        TypeError: If ``n`` is not an int.
        ValueError: If a value is out of range, or so large that neighbouring
            points coincide in float32.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f'n must be an int, the number of intervals, got {n}')
    if n < 1:
        raise ValueError(f'n must be at least 1, got {n}')
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f'alpha must be positive and finite, got {alpha}')
    if beta is not None and not (beta >= 0 and math.isfinite(beta)):
        raise ValueError('beta must be at least 0 and finite, or None for a '
                         f'uniform grid, got {beta}')
    # written as in the paper: a target on a point shall stay on it
    # models are also built under `torch.device('meta')`
    i = torch.arange(n + 1, dtype=torch.float64, device='cpu')
    grid = alpha * i / n if one_sided else -alpha + 2 * alpha * i / n
    if beta:
        # beyond 700 float64 overflows, and the check below fails anyway
        growth = math.exp(min(alpha * beta, 700)) - 1
        grid = grid.sign() * alpha / growth * ((beta * grid.abs()).exp() - 1)
    if not (grid.to(torch.float32).diff() > 0).all():
        raise ValueError(
            f'alpha {alpha}, n {n} and beta {beta} give grid points that '
            'coincide in float32; take a smaller alpha, n or beta, or None '
            'as beta for a uniform grid')
    return grid.to(dtype)


def two_hot(target: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Labels with weight on the two grid points around a coordinate.

    ``p*_r = (T - y_l) / (y_r - y_l)`` on the right one, the rest on the left
    one, so that ``sum_i p*_i y_i = T``. What lies outside of the grid becomes
    its end (a reconstruction).

    Args:
        target (Tensor): Coordinates, any shape, finite.
        grid (Tensor): Shape (n + 1, ).

    Returns:
        tuple[Tensor, Tensor]: Index of the left point in [0, n - 1], of the
        targets' shape, and the labels, shape (*target, n + 1).
    """
    dtype = torch.promote_types(target.dtype, torch.float32)
    target, grid = target.to(dtype), grid.to(dtype)
    target = target.clamp(grid[0], grid[-1])
    # the last point begins no interval
    left = torch.searchsorted(grid, target.contiguous(), right=True) - 1
    left = left.clamp(0, len(grid) - 2)
    right_weight = (target - grid[left]) / (grid[left + 1] - grid[left])
    label = target.new_zeros(*target.shape, len(grid))
    label.scatter_(-1, left[..., None], (1 - right_weight)[..., None])
    label.scatter_(-1, left[..., None] + 1, right_weight[..., None])
    return left, label


def decode(logits: Tensor, grid: Tensor) -> Tensor:
    """The mean of the distributions, over all points.

    Args:
        logits (Tensor): Shape (..., n + 1).
        grid (Tensor): Shape (n + 1, ).

    Returns:
        Tensor: Shape (...), at least float32, inside of the grid.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    # no matmul, which mixed precision would narrow
    return (logits.to(dtype).softmax(-1) * grid.to(dtype)).sum(-1)


def outside(target: Tensor, grid: Tensor) -> Tensor:
    """Which coordinates :func:`two_hot` clamps, as a mask."""
    return (target < grid[0]) | (target > grid[-1])
