"""Which tokens go together: matchings as functions of queries and keys.

Each returns a :class:`Match`, which says where every token goes; merging,
undoing it and composing merges of several layers know nothing else. Choosing
draws no gradient. Equal similarities are ordered by position, the lower
first, on every device.
"""
from typing import NamedTuple

import torch
from torch import Tensor


class Match(NamedTuple):
    """Where tokens go.

    Attributes:
        slot (Tensor): New position of each token, shape (B, N), int64.
        num (int): Number of new positions, M.
        weight (Tensor | None): Factor of each token in the sum of its new
            position, float32 of shape (B, N, 1); None: 1.
    """
    slot: Tensor
    num: int
    weight: Tensor | None = None


def num_merged(num_tokens: int, num_protected: int, r: int) -> int:
    """How many tokens can leave: at most half of those not protected."""
    return max(0, min(r, (num_tokens - num_protected) // 2))


def unit_length(x: Tensor) -> Tensor:
    """Vectors of length 1; those of length 0 stay 0."""
    norm = x.norm(dim=-1, keepdim=True)
    return x / torch.where(norm == 0, 1, norm)


@torch.no_grad()
def bipartite(k: Tensor, r: int, protected: tuple[int, ...] = ()) -> Match:
    """Match each second token with the most similar of the others.

    Tokens at even positions are sources, those at odd positions are
    destinations; the ``r`` sources that are most similar to a destination
    (cosine of keys averaged over heads) go into it. New positions: protected
    tokens in their order, then the other sources that stay, then the other
    destinations. Sources that stay keep their order; without protected
    tokens they are sorted by similarity, as in the official code.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that neither leave nor
            take in others, ascending.

    Returns:
        Match: With ``num = N - num_merged(N, len(protected), r)``.

    Source: Bolya et al., Token Merging: Your ViT But Faster (ICLR 2023),
    section 3.
    """
    raise NotImplementedError
