"""Merging tokens by a match."""
import torch
from torch import Tensor

from .matching import Match


def merge(x: Tensor,
          mass: Tensor | None,
          match: Match,
          normalize: bool = True) -> tuple[Tensor, Tensor]:
    """Average what goes to the same position, weighted by mass.

    Sums are in float32 at least, since masses of half precision are exact up
    to 256 or 2048 only.

    Args:
        x (Tensor): Tokens, shape (B, N, C).
        mass (Tensor | None): How many each stands for, shape (B, N, 1). None:
            one.
        match (Match): Where they go.
        normalize (bool): With weights of the match, whether what goes to the
            same position has weights with the sum of 1; otherwise the sum is
            divided by the mass alone.

    Returns:
        tuple[Tensor, Tensor]: Merged tokens, shape (B, M, C), in the dtype of
        ``x``, and their masses, shape (B, M, 1), float32 or float64. Where
        the mass is 0, they are 0.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    if mass is None:
        mass = x.new_ones((*x.shape[:2], 1), dtype=dtype)
    summed = _add(mass, match)
    share, total = mass, summed
    if match.weight is not None:
        share = mass * match.weight
        if normalize:
            total = _add(share, match)
    rows = _add(x.to(dtype) * share, match)
    return (rows / torch.where(total == 0, 1, total)).to(x.dtype), summed


def _add(x: Tensor, match: Match) -> Tensor:
    """Sum of the rows of each new position, shape (B, M, C)."""
    index = match.slot.unsqueeze(-1).expand_as(x)
    out = x.new_zeros((x.size(0), match.num, x.size(2)))
    return out.scatter_add(1, index, x)


def unmerge(x: Tensor, match: Match) -> Tensor:
    """Give every token the row of where it went.

    Args:
        x (Tensor): Merged tokens, shape (B, M, C).
        match (Match): Where they went.

    Returns:
        Tensor: Shape (B, N, C).
    """
    index = match.slot.unsqueeze(-1).expand(-1, -1, x.size(-1))
    return x.gather(1, index)
