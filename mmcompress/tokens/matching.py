"""Which tokens go together: matchings as functions of queries and keys.

Each returns a :class:`Match`, which says where every token goes; merging,
undoing it and composing merges of several layers know nothing else. Choosing
draws no gradient. Equal similarities are ordered by position, the lower
first, on every device.

A matching names what it wants to see among ``q`` and ``k``, shape (B, H, N,
D), ``r``, the number of tokens that are to leave, ``protected``, the
positions of tokens that neither leave nor take in others, ascending, and
``padding``, which tokens are none, bool of shape (B, N), or None. Its other
arguments are options.
"""
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Match(NamedTuple):
    """Where tokens go.

    Attributes:
        slot (Tensor): New position of each token, shape (B, N), int64.
        num (int): Number of new positions, M.
        protected (tuple[int, ...]): New positions of the protected tokens.
        weight (Tensor | None): Factor of each token in the sum of its new
            position, float32 of shape (B, N, 1); None: 1.
        pads (bool): Whether nothing may go to some of the new positions.
    """
    slot: Tensor
    num: int
    protected: tuple[int, ...] = ()
    weight: Tensor | None = None
    pads: bool = False


def num_merged(num_tokens: int, num_protected: int, r: int) -> int:
    """How many tokens can leave: at most half of those not protected."""
    return max(0, min(r, (num_tokens - num_protected) // 2))


def num_bipartite(num_tokens: int, protected: Iterable[int], r: int) -> int:
    """How many tokens leave :func:`bipartite`, which has fixed sources."""
    even = sum(not p % 2 for p in protected)
    odd = len(tuple(protected)) - even
    sources = (num_tokens + 1) // 2 - even
    if num_tokens // 2 == odd:
        return 0
    return min(num_merged(num_tokens, even + odd, r), sources)


def unit_length(x: Tensor) -> Tensor:
    """Vectors of length 1; those of length 0 stay 0."""
    norm = x.norm(dim=-1, keepdim=True)
    return x / torch.where(norm == 0, 1, norm)


def _mean_key(k: Tensor) -> Tensor:
    """Of all heads, of length 1; half precision would make ties."""
    k = k if k.dtype == torch.float64 else k.float()
    return unit_length(k.mean(dim=1))


def _cosines(a: Tensor, b: Tensor) -> Tensor:
    """Similarities of vectors of length 1, shapes (B, N, C) and (B, M, C).

    Those of equal ones are equal: that of a vector and itself is 1 up to
    rounding only, which depends on where it stands, the batch and the device.
    """
    return _rounded_off(a @ b.mT)


def _rounded_off(scores: Tensor, ulps: int = 8) -> Tensor:
    """What would be 1 but for rounding is equal."""
    return scores.clamp(max=1 - ulps * torch.finfo(scores.dtype).eps)


def _is_protected(num: int, protected: Iterable[int], like: Tensor) -> Tensor:
    """A mask of shape (num, ), made without a copy from the host."""
    position = torch.arange(num, device=like.device)
    mask = torch.zeros_like(position, dtype=torch.bool)
    for p in protected:
        mask = mask | (position == p)
    return mask


def _best_of_odd(k: Tensor, protected: tuple[int, ...],
                 padding: Tensor | None) -> tuple[Tensor, Tensor]:
    """The most similar odd token of each even one.

    Returns:
        tuple[Tensor, Tensor]: The similarity, -inf of protected tokens, -2 of
        padding, and which of the odd ones, each of shape (B, ceil(N / 2)).
    """
    metric = _mean_key(k)
    scores = _cosines(metric[:, ::2], metric[:, 1::2])
    if padding is not None:
        # below any cosine: it leaves only behind all tokens, but before what
        # is protected, which must not be counted among those that leave
        scores = scores.masked_fill(
            padding[:, ::2, None] | padding[:, None, 1::2], -2.)
    if protected:
        fixed = _is_protected(k.size(2), protected, k)
        scores = scores.masked_fill(fixed[::2, None] | fixed[None, 1::2],
                                    float('-inf'))
    return scores.max(dim=-1)


def _ranks(order: Tensor) -> Tensor:
    """At which place of an order each position stands, shape (B, N)."""
    places = torch.arange(order.size(1), device=order.device)
    return torch.empty_like(order).scatter(1, order, places.expand_as(order))


def _compact(stays: Tensor) -> Tensor:
    """New positions of what stays, in its order, shape (B, N)."""
    return stays.cumsum(dim=1) - 1


def _alone(k: Tensor, protected: tuple[int, ...]) -> Match:
    """Of a single token, which is similar to none."""
    slot = torch.zeros((len(k), 1), dtype=torch.long, device=k.device)
    return Match(slot, 1, tuple(range(len(protected))))


@torch.no_grad()
def bipartite(k: Tensor,
              r: int,
              protected: tuple[int, ...] = (),
              padding: Tensor | None = None) -> Match:
    """Match each second token with the most similar of the others.

    Tokens at even positions are sources, those at odd positions are
    destinations; the ``r`` sources that are most similar to a destination
    (cosine of keys averaged over heads) go into it. Equal keys are equally
    similar, whatever rounding makes of 1. New positions: protected tokens in
    their order, then the other sources that stay, then the other
    destinations. Sources that stay keep their order; without protected tokens
    they are sorted by similarity, as in the official code.

    Source: Bolya et al., Token Merging: Your ViT But Faster (ICLR 2023),
    section 3.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that stay.
        padding (Tensor | None): What is no token, shape (B, N), bool.

    Returns:
        Match: With ``num = N - num_bipartite(N, protected, r)``.
    """
    num = k.size(2)
    r = num_bipartite(num, protected, r)
    if num == 1:
        return _alone(k, protected)
    fixed = _is_protected(num, protected, k)
    best, partner = _best_of_odd(k, protected, padding)
    order = best.argsort(dim=1, descending=True, stable=True)
    rank = _ranks(order)
    leaves = rank < r
    if protected:
        first = _compact(~leaves & ~fixed[::2]) + len(protected)
    else:
        first = rank - r
    sources = best.size(1) - r - sum(not p % 2 for p in protected)
    second = (~fixed[1::2]).cumsum(0) - 1 + len(protected) + sources
    first = torch.where(leaves, second[partner], first)
    second = second.expand(len(k), -1)
    # not written in place, so that exporters can take it apart
    place = torch.arange(num, device=k.device)
    slot = torch.where(place % 2 == 0, first[:, place // 2],
                       second[:, (place - 1).clamp(min=0) // 2])
    for new, old in enumerate(protected):
        slot = torch.where(place == old, new, slot)
    return Match(slot, num - r, tuple(range(len(protected))))


@torch.no_grad()
def kth(k: Tensor, every: int = 2, protected: tuple[int, ...] = ()) -> Match:
    """Send all but each ``every``-th token to the most similar of these.

    An ablation of the official code. Tokens behind the last of them stay.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        every (int): At least 2.
        protected (tuple[int, ...]): Positions of tokens that stay.
    """
    num = k.size(2)
    groups = (num - len(protected)) // every
    fixed = _is_protected(num, protected, k)
    place = (~fixed).cumsum(0)
    leaves = ~fixed & (place % every != 0) & (place <= groups * every)
    return _to_best(k, leaves.expand(len(k), -1), groups * (every - 1),
                    protected)


@torch.no_grad()
def random(k: Tensor,
           r: int,
           protected: tuple[int, ...] = (),
           uniform: Tensor | None = None,
           pairs: bool = False) -> Match:
    """Let random tokens leave, to compare with.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that stay.
        uniform (Tensor | None): Random numbers, shape (B, N). The ``r``
            lowest leave. Defaults to new ones.
        pairs (bool): Whether they go anywhere, instead of to the most similar
            of those that stay.
    """
    num = k.size(2)
    r = num_merged(num, len(protected), r)
    if uniform is None:
        uniform = torch.rand((len(k), num), device=k.device)
    fixed = _is_protected(num, protected, k)
    order = uniform.masked_fill(fixed, 2.).argsort(dim=1, stable=True)
    scores = None
    if pairs:
        scores = torch.rand((len(k), num, num), device=k.device)
    return _to_best(k, _ranks(order) < r, r, protected, scores)


@torch.no_grad()
def evit(q: Tensor, k: Tensor, r: int, protected: tuple[int,
                                                        ...] = ()) -> Match:
    """Let those go into one that the class token attends to least.

    They are averaged with its attention as weights.

    Source: Liang et al., Not All Patches are What You Need: Expediting Vision
    Transformers via Token Reorganizations (ICLR 2022), section 3.

    Args:
        q (Tensor): Queries, shape (B, H, N, D).
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave; ``r + 1`` become one.
        protected (tuple[int, ...]): Positions of tokens that stay; the first
            is the class token.

    Raises:
        ValueError: If there is no class token.
    """
    if 0 not in protected:
        raise ValueError("'evit' needs a class token at position 0")
    num = k.size(2)
    r = max(0, min(r, num - len(protected) - 1))
    # row by row, unlike a product of matrices: of equal keys they are equal
    scores = (q[:, :, :1] * q.size(-1)**-.5 * k).sum(dim=-1)
    attention = scores.float().softmax(dim=-1).mean(dim=1)
    fixed = _is_protected(num, protected, k)
    order = attention.masked_fill(fixed, 2.).argsort(dim=1, stable=True)
    rank = _ranks(order)
    # the lowest r + 1: the first of them in the sequence stays for all
    fused = rank <= r if r else torch.zeros_like(rank, dtype=torch.bool)
    leaves = fused & (fused.cumsum(dim=1) > 1)
    stay = _compact(~leaves)
    target = stay.gather(1, fused.int().argmax(dim=1, keepdim=True))
    slot = torch.where(fused, target, stay)
    weight = torch.where(fused, attention, 1.).unsqueeze(-1)
    return Match(slot, num - r, _in_order(protected, num, num - r), weight)


def _in_order(protected: tuple[int, ...], num: int,
              left: int) -> tuple[int, ...]:
    """New positions where what stays keeps its order.

    Raises:
        ValueError: If others stand on both sides of a protected token.
    """
    ends = set(protected)
    new = []
    for p in protected:
        if ends.issuperset(range(p)):
            new.append(p)
        elif ends.issuperset(range(p, num)):
            new.append(p - num + left)
        else:
            raise ValueError(
                f'the protected token {p} of {num} stands between others; '
                'protected are the first and the last ones')
    return tuple(new)


def _to_best(k: Tensor,
             leaves: Tensor,
             r: int,
             protected: tuple[int, ...],
             scores: Tensor | None = None) -> Match:
    """Send tokens to the most similar of those that stay, in their order.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        leaves (Tensor): Which ``r`` of each image leave, bool of shape (B, N).
        r (int): How many.
        protected (tuple[int, ...]): Positions of tokens that take in none.
        scores (Tensor | None): Similarities, shape (B, N, N). Defaults to the
            cosine of keys averaged over heads.
    """
    if scores is None:
        metric = _mean_key(k)
        scores = _cosines(metric, metric)
    num = k.size(2)
    closed = leaves | _is_protected(num, protected, k)
    partner = scores.masked_fill(closed[:, None], float('-inf')).argmax(dim=2)
    stay = _compact(~leaves)
    slot = torch.where(leaves, stay.gather(1, partner), stay)
    return Match(slot, num - r, _in_order(protected, num, num - r))


@torch.no_grad()
def complete_graph(q: Tensor,
                   k: Tensor,
                   r: int,
                   protected: tuple[int, ...] = (),
                   guide: int | Tensor | None = None,
                   also_protected: Tensor | None = None,
                   importance: Tensor | None = None,
                   official: bool = False) -> Match:
    """Match any token with any other, and spare those that matter.

    Of two that are most similar to each other, the one with the higher
    similarity to any token, at equal ones the first, may leave. Of these go
    the ``r`` whose similarity exceeds their importance most; an important one
    has a larger weight in the sum. Tokens keep their order.

    Source: Shi et al., CrossGET: Cross-Guided Ensemble of Tokens (ICML 2024),
    section 3; where that and the official code differ, the code.

    Args:
        q (Tensor): Queries, shape (B, H, N, D).
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that stay.
        guide (int | Tensor | None): Position of the token whose query says
            what is important; of each image its own with int64 of shape
            (B, ). Defaults to the class token, a protected one at position 0;
            without one all are equally important.
        also_protected (Tensor | None): Of each image the position of another
            token that stays, int64 of shape (B, ).
        importance (Tensor | None): Shape (B, N), instead of by ``guide``.
        official (bool): Weights of the official code, for ``normalize=False``
            of :func:`~mmcompress.tokens.merge`: of each pair by itself, their
            sum is 1 only in a pair of equal masses. Otherwise weights are
            proportional to the exponential of the importance, which is the
            same in such a pair.
    """
    batch, _, num, _ = k.shape
    if k.dtype != torch.float64:
        q, k = q.float(), k.float()
    keys = unit_length(k.transpose(1, 2).flatten(2))
    fixed = _is_protected(num, protected, k).expand(batch, -1)
    count = len(protected)
    if also_protected is not None:
        places = torch.arange(num, device=k.device)
        fixed = fixed | (places == also_protected.view(-1, 1))
        count += 1
    r = num_merged(num, count, r)
    if guide is None and 0 in protected:
        guide = 0
    if importance is None:
        importance = _alike_query(q, keys, guide)
    pairs = choose_pairs(keys, importance, fixed, r)
    return join_pairs(pairs, importance, protected, official)


def _alike_query(q: Tensor, keys: Tensor,
                 guide: int | Tensor | None) -> Tensor:
    """Similarity of keys and of one query.

    Args:
        q (Tensor): Queries, shape (B, H, N, D).
        keys (Tensor): Of length 1, all heads in a row, shape (B, N, H * D).
        guide (int | Tensor | None): See :func:`complete_graph`.

    Returns:
        Tensor: Shape (B, N).
    """
    if guide is None:
        return torch.zeros_like(keys[..., 0])
    queries = q.transpose(1, 2).flatten(2)
    if isinstance(guide, int):
        query = queries[:, guide]
    else:
        index = guide.view(-1, 1, 1).expand(-1, -1, queries.size(2))
        query = queries.gather(1, index).squeeze(1)
    # row by row, unlike a product of matrices: of equal keys it is equal
    return (keys * unit_length(query).unsqueeze(1)).sum(dim=-1)


class Pairs(NamedTuple):
    """Which tokens leave, and where to.

    Attributes:
        order (Tensor): All positions, shape (B, N); the first ``r`` leave.
        partner (Tensor): Where each of these goes, shape (B, r).
    """
    order: Tensor
    partner: Tensor


def choose_pairs(keys: Tensor, importance: Tensor, fixed: Tensor,
                 r: int) -> Pairs:
    """Choose those of :func:`complete_graph`.

    Args:
        keys (Tensor): Of length 1, shape (B, N, C).
        importance (Tensor): Shape (B, N).
        fixed (Tensor): Which tokens stay, bool of shape (B, N).
        r (int): How many tokens leave.
    """
    num = keys.size(1)
    itself = torch.eye(num, dtype=torch.bool, device=keys.device)
    none = itself | fixed[:, :, None] | fixed[:, None]
    scores = _cosines(keys, keys)
    # rounding need not be the same both ways, and decide who leaves
    scores = torch.maximum(scores, scores.mT).masked_fill(none, float('-inf'))
    rank = _ranks(
        scores.max(dim=2).values.argsort(dim=1, descending=True, stable=True))
    behind = rank[:, None] > rank[:, :, None]
    similarity = scores.masked_fill(~behind, float('-inf')).max(dim=2).values
    order = (importance - similarity).argsort(dim=1, stable=True)
    leaves = _ranks(order) < r
    partner = scores.masked_fill(leaves[:, None], float('-inf')).argmax(dim=2)
    return Pairs(order, partner.gather(1, order[:, :r]))


def pair_weights(pairs: Pairs, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Official weights of each that leaves and of its partner, (B, r) each."""
    sources = pairs.order[:, :pairs.partner.size(1)]
    pair = torch.stack(
        [importance.gather(1, sources),
         importance.gather(1, pairs.partner)])
    own, others = pair.softmax(dim=0)
    return own, others


def join_pairs(pairs: Pairs,
               importance: Tensor,
               protected: tuple[int, ...] = (),
               official: bool = False) -> Match:
    """Where tokens go if these pairs merge.

    Args:
        pairs (Pairs): What leaves.
        importance (Tensor): Shape (B, N).
        protected (tuple[int, ...]): Positions of tokens that stay.
        official (bool): See :func:`complete_graph`.
    """
    order, partner = pairs
    num, r = order.size(1), partner.size(1)
    sources = order[:, :r]
    # of a token that nothing joins exactly 1
    weight = torch.ones_like(importance)
    if official:
        own, others = pair_weights(pairs, importance)
        weight = weight.scatter(1, sources, 2 * own)
        weight = weight.scatter_add(1, partner, 2 * others - 1)
    else:
        more = importance.gather(1, sources) - importance.gather(1, partner)
        weight = weight.scatter(1, sources, more.exp())
    stay = _compact(_ranks(order) >= r)
    slot = stay.scatter(1, sources, stay.gather(1, partner))
    return Match(slot, num - r, _in_order(protected, num, num - r),
                 weight.unsqueeze(-1))


def received_attention(attention: Tensor, guide: int | None = -1) -> Tensor:
    """How much tokens are attended to: by all others, and by one of them.

    Args:
        attention (Tensor): Of queries in rows, shape (B, H, N, N).
        guide (int | None): Position of the one, which counts as much as the
            mean of all others. None: all count the same.

    Returns:
        Tensor: Mean of all heads, shape (B, N).
    """
    attention = attention.mean(dim=1)
    if guide is None:
        return attention.mean(dim=1)
    one = attention[:, guide]
    others = attention.sum(dim=1) - one
    return others / (attention.size(1) - 1) + one


@torch.no_grad()
def attention_graph(q: Tensor,
                    k: Tensor,
                    r: int,
                    protected: tuple[int, ...] = (),
                    mass: Tensor | None = None,
                    guide: int | None = None,
                    official: bool = False) -> Match:
    """As :func:`complete_graph`, where what is attended to is important.

    As the official code does it for LLaVA; keys are averaged over heads.

    Args:
        q (Tensor): Queries, shape (B, H, N, D).
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that stay.
        mass (Tensor | None): Shape (B, N, 1).
        guide (int | None): Position of the token whose attention counts most.
            Defaults to the class token, as of :func:`complete_graph`.
        official (bool): As of :func:`complete_graph`.
    """
    if k.dtype != torch.float64:
        q, k = q.float(), k.float()
    if guide is None and 0 in protected:
        guide = 0
    scores = q @ k.mT * q.size(-1)**-.5
    if mass is not None:
        scores = scores + mass.log().mT.unsqueeze(1)
    importance = received_attention(scores.softmax(dim=-1), guide)
    k = k.mean(dim=1, keepdim=True)
    return complete_graph(
        k, k, r, protected, importance=importance, official=official)


@torch.no_grad()
def threshold(k: Tensor,
              above: float,
              protected: tuple[int, ...] = (),
              padding: Tensor | None = None) -> Match:
    """As :func:`bipartite`, but all pairs above a similarity merge.

    Images of a batch keep different numbers of tokens: what one has less than
    another is padding, with a mass of 0. The number of new positions depends
    on the data, so it can be neither exported nor compiled as one graph.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        above (float): Cosine of keys averaged over heads, from -1 to 1.
        protected (tuple[int, ...]): Positions of tokens that stay.
        padding (Tensor | None): What is no token, shape (B, N), bool.
    """
    num = k.size(2)
    if num == 1:
        return _alone(k, protected)
    best, partner = _best_of_odd(k, protected, padding)
    leaves = torch.zeros((len(k), num), dtype=torch.bool, device=k.device)
    leaves[:, ::2] = best > above
    target = torch.zeros_like(leaves, dtype=torch.long)
    target[:, ::2] = 2 * partner + 1
    if padding is not None:
        # to any other: it weighs nothing
        leaves, target = leaves | padding, target.masked_fill(padding, 0)
    return _protected_first(leaves, target, protected)


@torch.no_grad()
def local_cells(
    k: Tensor,
    r: int | None = None,
    protected: tuple[int, ...] = (),
    *,
    grid: tuple[int, int],
    above: float | None = None,
) -> Match:
    """Let the four tokens of a cell of 2x2 become one where they are alike.

    For the first layer that merges, since later there is no grid. A last row
    or column without a partner stays.

    Source: Norouzi et al., ALGM: Adaptive Local-then-Global Token Merging
    for Efficient Semantic Segmentation with Plain Vision Transformers (CVPR
    2024), the local step.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        grid (tuple[int, int]): Height and width in tokens.
        r (int | None): How many tokens are to leave: three each of the cells
            that are most alike.
        above (float | None): Instead, cells merge whose tokens have a higher
            mean similarity; then images may keep different numbers, see
            :func:`threshold`.
        protected (tuple[int, ...]): Positions of tokens that stay.

    Raises:
        ValueError: If the tokens are not those of the grid, or neither or
            both of ``r`` and ``above`` say how many leave.
    """
    if (r is None) == (above is None):
        raise ValueError(f"'local_cells' takes r or above, not r={r} and "
                         f'above={above}')
    num, (height, width) = k.size(2), grid
    if height * width != num - len(protected):
        raise ValueError(
            f"'local_cells' needs the {height}x{width} tokens of the grid, "
            f'and there are {num - len(protected)}: it is for the first layer '
            'that merges, and `grid` is the number of patches along the '
            'height and the width of an image')
    fixed = _is_protected(num, protected, k)
    places = torch.arange(num, device=k.device)
    # positions without those that are protected
    where = places.masked_fill(fixed, num).sort().values[:height * width]
    cells = where.view(height, width)[:height // 2 * 2, :width // 2 * 2]
    cells = cells.unfold(0, 2, 2).unfold(1, 2, 2).reshape(-1, 4)
    metric = _mean_key(k)[:, cells]
    # the mean of the six pairs
    alike = (metric.sum(dim=2).square().sum(dim=-1) -
             metric.square().sum(dim=(2, 3))) / 12
    alike = _rounded_off(alike, ulps=32)
    if above is None:
        order = alike.argsort(dim=1, descending=True, stable=True)
        merges = _ranks(order) < r // 3
    else:
        merges = alike > above
    leaves = torch.zeros((len(k), num), dtype=torch.bool, device=k.device)
    leaves[:, cells[:, 1:].flatten()] = merges.repeat_interleave(3, dim=1)
    target = places.scatter(0, cells[:, 1:].flatten(),
                            cells[:, :1].expand(-1, 3).flatten())
    left = None if above is not None else num - 3 * min(r // 3, len(cells))
    return _protected_first(leaves, target.expand_as(leaves), protected, left)


@torch.no_grad()
def pitome(k: Tensor,
           r: int,
           protected: tuple[int, ...] = (),
           margin: float = 0.5) -> Match:
    """Merge where many tokens are alike, and leave alone what is rare.

    The ``2 r`` tokens of the highest energy, the mean of ``ELU(cosine -
    margin)`` over all tokens, are dealt out to sources and destinations in
    turn. Tokens keep their order.

    Source: Tran et al., Accelerating Transformers with Spectrum-Preserving
    Token Merging (NeurIPS 2024), equation 4; there the margin falls from 0.9
    to 0 with the depth.

    Args:
        k (Tensor): Keys, shape (B, H, N, D).
        r (int): How many tokens are to leave.
        protected (tuple[int, ...]): Positions of tokens that stay.
        margin (float): Of the energy.
    """
    num = k.size(2)
    r = num_merged(num, len(protected), r)
    metric = _mean_key(k)
    scores = _cosines(metric, metric)
    energy = F.elu(scores - margin).mean(dim=2)
    fixed = _is_protected(num, protected, k)
    order = energy.masked_fill(fixed, float('-inf')).argsort(
        dim=1, descending=True, stable=True)
    rank = _ranks(order)
    leaves = (rank < 2 * r) & (rank % 2 == 0)
    takes = (rank < 2 * r) & (rank % 2 == 1)
    partner = scores.masked_fill(~takes[:, None], float('-inf')).argmax(dim=2)
    stay = _compact(~leaves)
    slot = torch.where(leaves, stay.gather(1, partner), stay)
    return Match(slot, num - r, _in_order(protected, num, num - r))


def _protected_first(leaves: Tensor,
                     target: Tensor,
                     protected: tuple[int, ...],
                     left: int | None = None) -> Match:
    """New positions: protected tokens, then the others that stay.

    Args:
        leaves (Tensor): Which leave, shape (B, N), bool.
        target (Tensor): Position of where they go, shape (B, N).
        protected (tuple[int, ...]): Positions of protected tokens.
        left (int | None): How many stay, of each image as many. None: as the
            data say, and the others get padding.
    """
    num = leaves.size(1)
    fixed = _is_protected(num, protected, leaves)
    # padding may go to a position that left, before any that stays
    stay = (~leaves & ~fixed).cumsum(dim=1).sub(1).clamp(min=0)
    stay = stay + len(protected)
    for new, old in enumerate(protected):
        stay[:, old] = new
    slot = torch.where(leaves, stay.gather(1, target), stay)
    pads = left is None
    if left is None:
        left = int((~leaves).sum(dim=1).max())
    return Match(slot, left, tuple(range(len(protected))), pads=pads)
