"""Thresholds on floats as thresholds on the integers behind them."""
import math

import torch
from torch import Tensor

from .arguments import MAX_PRODUCTS, check_vectors, require


def integer_limits(scale: Tensor, shift: Tensor, next_threshold: Tensor,
                   next_flip: Tensor | None,
                   num_products: int) -> tuple[Tensor, Tensor]:
    """Turn a threshold on ``scale * k + shift`` into one on the integer k.

    ``(k >= limit) ^ flip`` equals the bit that :func:`binary_pack` makes of
    ``scale * k + shift`` (two roundings in float32) with ``next_threshold``
    and ``next_flip``, for every integer ``k`` in
    ``[-num_products, num_products]``: ties, infinities and NaN included.

    Args:
        scale (Tensor): float32, shape (K, ).
        shift (Tensor): float32, shape (K, ).
        next_threshold (Tensor): float32, shape (K, ).
        next_flip (Tensor | None): bool, shape (K, ).
        num_products (int): Products in one dot product,
            ``kh * kw * C / groups``; at most 2**24.

    Returns:
        tuple[Tensor, Tensor]: ``limit``, int32, and ``flip``, bool, both of
        shape (K, ), for :func:`mmcompress.ops.binary_conv2d_bits`.
    """
    require(
        1 <= num_products <= MAX_PRODUCTS,
        f'num_products must be from 1 to {MAX_PRODUCTS}, it is '
        f'{num_products}')
    num = scale.numel()
    check_vectors(
        scale,
        num,
        scale=scale,
        shift=shift,
        next_threshold=next_threshold,
        next_flip=next_flip)
    below = torch.zeros_like(scale, dtype=torch.bool) \
        if next_flip is None else next_flip
    # the bit falls with k where exactly one of the two turns the comparison
    flip = (scale < 0) ^ below

    def rises(k: Tensor) -> Tensor:
        y = scale * k.to(torch.float32) + shift
        bit = torch.where(below, y < next_threshold, y > next_threshold)
        return bit ^ flip

    # rounding is monotone, and so is the bit: bisect for the smallest k
    low = torch.full_like(scale, -num_products, dtype=torch.int32)
    high = torch.full_like(low, num_products + 1)
    for _ in range(math.ceil(math.log2(2 * num_products + 2))):
        middle = torch.div(low + high, 2, rounding_mode='floor')
        found = rises(middle)
        high = torch.where(found, middle, high)
        low = torch.where(found | (low == high), low, middle + 1)
    return high, flip
