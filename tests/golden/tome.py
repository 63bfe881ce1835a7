"""ToMe: matchings, merging, schedules, and whole vision transformers."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.tokens import Match, matching, merge, schedule, unmerge


def run(case: Case) -> dict[str, Tensor] | None:
    """By the keys that a fixture has; ``meta.kind`` is empty."""
    if 'items' in case.hyper:
        return {
            f'out/{i}':
            torch.tensor(schedule(_argument(item), item['num_layers']))
            for i, item in enumerate(case.hyper['items'])
        }
    if 'in/image' in case:
        from golden.tome_vit import run_vit
        return run_vit(case)
    if 'k' in case.hyper:
        return _kth(case)
    if 'in/uniform' in case:
        return _random(case)
    if 'r' in case.hyper:
        return _bipartite(case)
    return None


def _argument(item: dict) -> int | tuple | list:
    return tuple(item['r']) if item['kind'] == 'tuple' else item['r']


def _bipartite(case: Case) -> dict[str, Tensor]:
    hyper = case.hyper
    protected = (0, ) * hyper['class_token'] + (1, ) * hyper['distill_token']
    match = matching.bipartite(case['in/metric'][:, None], hyper['r'],
                               protected)
    x = case['in/x'].requires_grad_()
    mass = case['in/size'] if 'in/size' in case else None
    merged, size = merge(x, mass, match)
    (merged * case['in/cotangent']).sum().backward()
    return {
        'out/merged': merged,
        'out/size': size,
        'out/source': _source(match),
        'out/unmerged': unmerge(merged, match),
        'out/merged_mode_mean': merge(x, None, match)[0],
        'grad/x': x.grad
    }


def _source(match: Match) -> Tensor:
    """Which tokens are in which, shape (B, M, N)."""
    one_hot = torch.nn.functional.one_hot(match.slot, match.num)
    return one_hot.mT.to(torch.uint8)


def _sum(x: Tensor, match: Match) -> Tensor:
    merged, size = merge(x, None, match)
    return merged * size


def _kth(case: Case) -> dict[str, Tensor]:
    """The official code leaves out what is behind the last group."""
    every = case.hyper['k']
    count = case['in/x'].size(1) // every * every
    x = case['in/x'][:, :count]
    match = matching.kth(case['in/metric'][:, None, :count], every)
    merged, _ = merge(x, None, match)
    return {
        'out/merged': merged,
        'out/merged_sum': _sum(x, match),
        'out/unmerged': unmerge(merged, match)
    }


def _random(case: Case) -> dict[str, Tensor]:
    """Officially, what stays is in the order of its random numbers."""
    uniform = case['in/uniform'].flatten(1)
    r = case.hyper['r']
    match = matching.random(case['in/metric'][:, None], r, uniform=uniform)
    order = uniform.argsort(dim=1, stable=True)[:, r:]
    place = order.argsort(dim=1)
    match = match._replace(slot=place.gather(1, match.slot))
    merged, size = merge(case['in/x'], None, match)
    return {
        'out/merged': merged,
        'out/size': size,
        'out/source': _source(match),
        'out/merged_sum': _sum(case['in/x'], match),
        'out/unmerged': unmerge(merged, match)
    }
