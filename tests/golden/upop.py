"""Adapter of the UPop fixtures."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from golden import Case
from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from torch import Tensor

from mmcompress.pruning.cutting import cut
from mmcompress.pruning.mask_gradients import MaskGradients
from mmcompress.pruning.masks import add_masks, masked_units, masks_of
from mmcompress.pruning.units import find_units
from mmcompress.pruning.upop import (keep_units, lower_masks, progress,
                                     updates_at)

_NAMES = {
    'norm1': 'ln1',
    'norm2': 'ln2',
    'mlp.fc1': 'ffn.layers.0.0',
    'mlp.fc2': 'ffn.layers.1'
}


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


def our_name(name: str) -> str:
    """Name of a parameter of ``blocks.i`` in a sequence of our layers."""
    name = name.removeprefix('blocks.')
    for theirs, ours in _NAMES.items():
        name = name.replace(f'.{theirs}.', f'.{ours}.')
    return name


def dense_model(case: Case) -> nn.Module:
    """Layers of mmpretrain with the fixture's parameters."""
    hyper = case.hyper
    layers = [
        TransformerEncoderLayer(
            hyper['dim'],
            hyper['heads'],
            hyper['hidden'],
            norm_cfg=dict(type='LN', eps=hyper['ln_eps']))
        for _ in range(hyper['layers'])
    ]
    model = nn.Sequential(*layers).double()
    state = {our_name(k): v for k, v in case.group('param').items()}
    model.load_state_dict(state)
    return model


def run_search(case: Case) -> dict[str, Tensor]:
    """Some steps, then the model without what they masked."""
    hyper = case.hyper
    model = dense_model(case)
    dense = copy.deepcopy(model)
    add_masks(model, find_units(model))
    masks = {mask: units for units, mask in masked_units(model)}
    weights = {
        mask: hyper['attn_weight'] if units.kind == 'attention' else 1
        for mask, units in masks.items()
    }
    gradients = MaskGradients(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), hyper['lr'], weight_decay=hyper['wd'])
    penalties = dict(attn=hyper['w_attn'], mlp=hyper['w_mlp'])
    result = {}

    def of_kind(key: str, name: str) -> Tensor:
        kind = 'attention' if key == 'attn' else key
        return torch.stack([
            getattr(m, name).clone() for m, units in masks.items()
            if units.kind == kind
        ])

    for step, (x, target) in enumerate(zip(case['in/x'], case['in/target'])):
        loss = F.mse_loss(model(x), target)
        penalty = sum(weight * of_kind(key, 'value').sum()
                      for key, weight in penalties.items())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        share = progress(step, hyper['steps'], hyper['p'])
        if step:
            lower_masks(masks, weights, share, 1 - share / hyper['p'])
        result |= {
            f'out/{step}/loss': loss[None],
            f'out/{step}/total': (loss + penalty)[None],
            f'out/{step}/pi': torch.tensor([share], dtype=torch.float64)
        }
        for key, weight in penalties.items():
            # ours are without that of the penalty, the same for all masks
            gradient = of_kind(key, 'gradient') + (step + 1) * weight
            result[f'out/{step}/grad_{key}'] = gradient
            result[f'out/{step}/alpha_{key}'] = of_kind(key, 'value')
    assert gradients.num_steps == hyper['steps']
    state = model.state_dict()
    result |= {
        key: state[our_name(key.removeprefix('out/final/'))]
        for key in case.arrays if key.startswith('out/final/')
    }
    dense.load_state_dict({k: state[k] for k in dense.state_dict()})
    cut(dense, {k: v.nonzero()[:, 0] for k, v in masks_of(model).items()})
    state = dense.state_dict()
    result['out/compressed_output'] = dense(case['in/x'][0])
    result |= {
        f'out/compressed/{name}': state[our_name(name)]
        for name in case.group('out/compressed')
    }
    return result


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if 'items' in case.hyper:
        return run_schedule(case)
    if 'pi' in case.hyper:
        return run_update(case)
    if 'in/target' in case:
        return run_search(case)
    return None
