"""How far minimising the entropy moves a coordinate."""
import torch
from torch import Tensor


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
