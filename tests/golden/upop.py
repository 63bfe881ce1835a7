"""Adapter of the UPop fixtures."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.pruning.upop import keep_units, progress, updates_at


def run_schedule(case: Case) -> dict[str, Tensor]:
    """Steps at which masks change, and what they become."""
    result = {}
    for i, (total, p, interval, skip) in enumerate(case.hyper['items']):
        steps = [
            s for s in range(total) if updates_at(s, total, interval, skip)
        ]
        shares = torch.tensor([progress(s, total, p) for s in steps],
                              dtype=torch.float64)
        result[f'out/{i}/steps'] = torch.tensor(steps)
        result[f'out/{i}/pi'] = shares
        result[f'out/{i}/alpha_pruned'] = 1 - shares / p
    return result


def run_update(case: Case) -> dict[str, Tensor]:
    """New masks of accumulated gradients, of one tower or of two."""
    hyper = case.hyper
    gradients, kinds, names = [], [], []
    for name, rows in case.group('in').items():
        name = name.removeprefix('grad_')
        for gradient in rows:
            gradients.append(gradient)
            kinds.append('attention' if name.startswith('attn') else 'mlp')
            names.append(name)
    weights = [hyper['attn_weight'] if k == 'attention' else 1 for k in kinds]
    keeps = keep_units(gradients, kinds, weights, hyper['pi'])
    low = 1 - hyper['pi'] / hyper['p']
    result = {}
    for name in dict.fromkeys(names):
        masks = [
            torch.where(keep, torch.ones_like(gradient), low)
            for keep, gradient, other in zip(keeps, gradients, names)
            if other == name
        ]
        key = name if f'out/{name}' in case else f'alpha_{name}'
        result[f'out/{key}'] = torch.stack(masks)
    return result


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if 'items' in case.hyper:
        return run_schedule(case)
    if 'pi' in case.hyper:
        return run_update(case)
    return None
