"""ToMe's matching of tokens by their keys, and their merge, in one go.

Of the tokens at even positions, those whose key, averaged over the heads, is
most similar to that of a token at an odd position go into it::

    mass'[m] = sum of mass[n] over the tokens n that go to m
    x'[m] = sum of mass[n] x[n] / mass'[m], 0 where the mass is 0

The matching is that of :func:`mmcompress.tokens.bipartite`. Kernels add up
keys in another order, so that similarities which differ by no more than their
rounding may be ordered otherwise; equal keys have equal similarities, and of
those the lower position is first.

Only ``x`` gets a gradient, ``dx[n] = mass[n] / mass'[m] dx'[m]``.
"""
import torch
from torch import Tensor

from . import library
from .arguments import check_tensor, require


def _num_leaving(num: int, r: int, protected: list[int]) -> int:
    odd = sum(p % 2 for p in protected)
    sources = (num + 1) // 2 - (len(protected) - odd)
    if num // 2 == odd:
        return 0
    return min(r, (num - len(protected)) // 2, sources)


def _check(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
           protected: list[int]) -> int:
    """Number of new tokens."""
    require(keys.is_floating_point(),
            f'keys must be floating-point, they are {keys.dtype}')
    require(keys.dim() == 4 and min(keys.shape[1:]) > 0,
            f'keys must be (B, H, N, D), it has shape {tuple(keys.shape)}')
    require(x.is_floating_point(),
            f'x must be floating-point, it is {x.dtype}')
    num = keys.shape[2]
    require(
        x.dim() == 3 and x.shape[:2] == (keys.shape[0], num),
        f'x must be ({keys.shape[0]}, {num}, C) as keys are '
        f'{tuple(keys.shape)}, it has shape {tuple(x.shape)}')
    check_tensor('x', x, x.dtype, keys, None)
    if mass is not None:
        check_tensor('mass', mass, torch.float32, keys, (len(x), num, 1))
    require(r >= 0, f'r must be at least 0, it is {r}')
    require(
        all(-1 < b < num and a < b
            for a, b in zip([-1, *protected], protected)),
        f'protected must be positions of the {num} tokens in ascending order, '
        f'it is {tuple(protected)}')
    return num - _num_leaving(num, r, protected)


def _bipartite(keys: Tensor, r: int, protected: tuple[int, ...]):
    k = keys if keys.dtype == torch.float64 else keys.float()
    metric = k.mean(dim=1)
    norm = metric.norm(dim=-1, keepdim=True)
    metric = metric / torch.where(norm == 0, 1, norm)
    num = k.size(2)
    r = _num_leaving(num, r, protected)
    scores = metric[:, ::2] @ metric[:, 1::2].mT
    fixed = torch.zeros(num, dtype=torch.bool)
    for p in protected:
        fixed[p] = True
    scores = scores.masked_fill(fixed[::2, None] | fixed[None, 1::2],
                                float('-inf'))
    best, partner = scores.max(dim=-1)
    order = best.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order,
        torch.arange(order.size(1)).expand_as(order))
    leaves = rank < r
    if protected:
        first = (~leaves & ~fixed[::2]).cumsum(1) - 1 + len(protected)
    else:
        first = rank - r
    sources = scores.size(1) - r - sum(not p % 2 for p in protected)
    second = (~fixed[1::2]).cumsum(0) - 1 + len(protected) + sources
    first = torch.where(leaves, second[partner], first)
    slot = k.new_empty((len(k), num), dtype=torch.long)
    slot[:, ::2] = first
    slot[:, 1::2] = second.expand(len(k), -1)
    for new, old in enumerate(protected):
        slot[:, old] = new
    return slot, num - r


def match_merge_reference(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
                          protected: list[int]) -> tuple:
    """Definition of :func:`match_merge` in plain PyTorch."""
    _check(keys, x, mass, r, protected)
    slot, num = _bipartite(keys, r, tuple(protected))
    if mass is None:
        mass = torch.ones_like(x[..., :1], dtype=torch.float32)
    index = slot.unsqueeze(-1)
    new_mass = mass.new_zeros(len(x), num, 1).scatter_add_(1, index, mass)
    y = x if x.dtype == torch.float64 else x.float()
    sums = y.new_zeros(len(x), num, x.size(2)).scatter_add_(
        1, index.expand_as(x), y * mass)
    y = sums / new_mass.masked_fill(new_mass == 0, 1)
    return y.to(x.dtype), new_mass, slot


def fake_match_merge(keys: Tensor, x: Tensor, mass: Tensor | None, r: int,
                     protected: list[int]) -> tuple:
    """Shapes of :func:`match_merge`."""
    num = _check(keys, x, mass, r, protected)
    batch, tokens, channels = x.shape
    return (x.new_empty(batch, num, channels),
            x.new_empty((batch, num, 1), dtype=torch.float32),
            x.new_empty((batch, tokens), dtype=torch.int64))


library.register(
    'match_merge', '(Tensor keys, Tensor x, Tensor? mass, int r, int[] '
    'protected) -> (Tensor, Tensor, Tensor)', match_merge_reference,
    fake_match_merge)


def _keep(ctx, inputs: tuple, output: tuple) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(inputs[2], *output[1:])


def _backward(ctx, dy: Tensor, *_) -> tuple:
    mass, new_mass, slot = ctx.saved_tensors
    index = slot.unsqueeze(-1)
    share = new_mass.gather(1, index).reciprocal()
    if mass is not None:
        share = torch.where(mass == 0, 0, mass * share)
    dx = dy.gather(1, index.expand(-1, -1, dy.size(2))) * share.to(dy.dtype)
    return None, dx, None, None, None


torch.library.register_autograd(
    'mmcompress::match_merge', _backward, setup_context=_keep)


def match_merge(keys: Tensor,
                x: Tensor,
                mass: Tensor | None = None,
                *,
                r: int,
                protected: tuple[int, ...] = ()
                ) -> tuple[Tensor, Tensor, Tensor]:
    return library.operators.match_merge(keys, x, mass, r, list(protected))
