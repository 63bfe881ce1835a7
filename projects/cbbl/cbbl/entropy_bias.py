"""How far minimising the entropy moves a coordinate.

    python -m cbbl.entropy_bias
"""
import torch
from torch import Tensor

from .grid import make_grid


def two_point_minimum(right_weight: Tensor, lambda_um: float) -> Tensor:
    """Right weight ``q`` that minimises ``CE + lambda H(q)`` of two points.

    The label has weight ``t`` on the right point and ``1 - t`` on the left
    one. Without uncertainty, ``q = t``; with it, ``q`` is nearer to the
    nearer point, and the decoded coordinate errs by ``q - t`` intervals.

    Args:
        right_weight (Tensor): ``t`` in [0, 1], any shape.
        lambda_um (float): In [0, 1); from 1 on, ``t = 0.5`` has no minimum
            between the points.

    Returns:
        Tensor: ``q``, float64, same shape.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0 <= lambda_um < 1:
        raise ValueError(f'lambda_um must be in [0, 1), got {lambda_um}')
    t = right_weight.to(torch.float64)
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError('right_weight must be in [0, 1]')
    mirrored = t > 0.5
    t = torch.where(mirrored, 1 - t, t)
    # for t <= 0.5 the derivative changes its sign once, between 0 and t
    low, high = torch.zeros_like(t), t.clone()
    for _ in range(100):
        q = (low + high) / 2
        slope = (1 - t) / (1 - q) - t / q + lambda_um * torch.logit(-q + 1)
        low = torch.where(slope < 0, q, low)
        high = torch.where(slope < 0, high, q)
    q = (low + high) / 2
    return torch.where(mirrored, 1 - q, q)


def main() -> None:
    """Print the minima, and what they mean for the R-CNN head."""
    t = torch.tensor([.05, .1, .2, .25, .3, .4, .5])
    print('| lambda | ' + ' | '.join(f'{x:g}' for x in t.tolist()) + ' |')
    print('| :-- |' + ' --: |' * len(t))
    for lambda_um in (0.1, 0.25, 0.5):
        q = two_point_minimum(t, lambda_um).tolist()
        print(f'| {lambda_um} | ' + ' | '.join(f'{x:.3f}' for x in q) + ' |')
    t = torch.linspace(0, 0.5, 1001)
    bias = (t - two_point_minimum(t, 0.5)).max().item()
    grid = make_grid(alpha=5.0, n=5, beta=1.0)
    width = (grid[-1] - grid[-2]).item()
    print(f'lambda 0.5: up to {bias:.1%} of an interval; in the outer '
          f'interval of R-CNN, {width:.2f}, {bias * width:.2f}, which is '
          f'{bias * width * 0.1:.1%} of the width of the box')


if __name__ == '__main__':
    main()
