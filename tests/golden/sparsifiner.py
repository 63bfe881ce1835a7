"""Adapter of the Sparsifiner fixtures, whose kind is read off their keys.

Fixtures with pruned tokens leave open what :class:`Reading` lists; they agree
if one of its readings does, ours before others.
"""
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product

import torch
import torch.nn.functional as F
from golden import Case, errors
from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from torch import Tensor, nn

from mmcompress.distill.losses import (AttentionReconLoss, KDLoss,
                                       TokenDistillLoss)
from mmcompress.sparse_attention import (MaskPredictor, SparseAttention,
                                         TokenPruner)
from mmcompress.sparse_attention.sparsifiner import TokenPruningLayer

# names of the official block
_NAMES = {
    'norm1.': 'ln1.',
    'norm2.': 'ln2.',
    'mlp.fc1.': 'ffn.layers.0.0.',
    'mlp.fc2.': 'ffn.layers.1.'
}
_PREFIX = 'attn.mask_predictor.'


@dataclass
class Reading:
    """What the official code does with pruned tokens, of what it may do.

    Attributes:
        comes_back (str): Whether a token that was pruned may stay after a
            later choice: ``'never'``; ``'and'``: no, but it takes a place;
            ``'may'``.
        of_patches (bool): Whether the class token counts among those that
            are active, which are the largest budget.
        tied (tuple[int, ...] | None): Which weights a pruned query keeps,
            all of which are equal; None: the first.
    """
    comes_back: str = 'never'
    of_patches: bool = False
    tied: tuple[int, ...] | None = None


class Predictor(MaskPredictor):
    """With a reading of its own."""
    reading = Reading()

    def mixture(self,
                q: Tensor,
                k: Tensor,
                token_mask: Tensor | None = None) -> Tensor:
        coef = super().mixture(q, k, token_mask)
        tied = self.reading.tied
        if tied is None or token_mask is None or self.reconstructs:
            return coef
        equal = torch.zeros_like(coef[0, 0, 0])
        equal[list(tied)] = 1 / len(equal)
        return torch.where(token_mask[:, None, :, None], coef, equal)

    def mask(self, approx: Tensor, token_mask: Tensor | None = None) -> Tensor:
        budget = self.budget
        if self.reading.of_patches and token_mask is not None:
            self.budget = min(budget, int(token_mask[0].sum()))
        mask = super().mask(approx, token_mask)
        self.budget = budget
        return mask


class Pruner(TokenPruner):
    """With a reading of its own."""
    reading = Reading()

    def forward(self, attn: Tensor, token_mask: Tensor | None) -> Tensor:
        if token_mask is None or self.reading.comes_back == 'never':
            return super().forward(attn, token_mask)
        kept = super().forward(attn, None)
        return kept & token_mask if self.reading.comes_back == 'and' else kept


def readings(case: Case) -> Iterator[Reading]:
    if not any('token_mask' in key for key in case.group('in')):
        yield Reading()
        return
    hyper = case.hyper
    num = hyper['num_tokens'] // hyper['reduce_n_factor']
    ties = [None]
    if hyper['coef_use_topk'] and hyper['coef_topk'] < num:
        ties += combinations(range(num), hyper['coef_topk'])
    for options in product(ties, (False, True), ('never', 'and', 'may')):
        yield Reading(*options[::-1])


def read(case: Case, run: Callable) -> dict[str, Tensor]:
    """What agrees best, and the first that agrees at all."""
    best, least = {}, float('inf')
    for reading in readings(case):
        result = run(case, reading)
        worst = max(errors(case, result).values())
        if not best or worst < least:
            best, least = result, worst
        if worst <= 1:
            break
    return best


def make_predictor(case: Case,
                   reading: Reading,
                   prefix: str = '') -> MaskPredictor:
    hyper = case.hyper
    back, first = (
        case.arrays.get(f'param/{prefix}{name}')
        for name in ('proj_back_n', 'proj_n'))
    shared = back is None or torch.equal(back, first)
    topk = hyper['coef_use_topk']
    predictor = Predictor(
        hyper['num_tokens'],
        hyper['num_heads'],
        hyper.get('head_dim') or hyper['dim'] // hyper['num_heads'],
        hyper['attn_keep_rate'],
        hyper['reduce_n_factor'],
        hyper['reduce_c_factor'],
        hyper.get('share_inout_proj', shared),
        hyper['basis_threshold'],
        coef_topk=hyper['coef_topk'] if topk else None,
        coef_threshold=None if topk else hyper['coef_threshold'],
        score_threshold=(None if hyper['score_use_topk'] else
                         hyper['score_threshold']),
        prune_rows=hyper['prune_rows'],
        reconstruct=hyper['recon_stage'])
    predictor.reading = reading
    return predictor


def load(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load all that there is; one of two shared parameters may be missing."""
    missing, unexpected = module.double().load_state_dict(state, strict=False)
    assert not unexpected
    assert all('proj_back_n' in name or 'proj_n' in name for name in missing)


def gradients(case: Case, total: Tensor, leaves: dict) -> dict[str, Tensor]:
    grads = torch.autograd.grad(
        total, list(leaves.values()), allow_unused=True)
    unused = {name for name, g in zip(leaves, grads) if g is None}
    assert set(case.hyper.get('no_grad', ())) <= unused
    return {
        f'grad/{name}': torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads)
    }


def mask_of(case: Case, key: str) -> Tensor | None:
    """Which patches are left, (B, N - 1)."""
    if key not in case:
        return None
    mask = case[key]
    mask = mask.reshape(len(mask), -1) > 0.5
    # without the class token, if it has that
    with_class = mask.shape[1] == case.hyper.get('num_tokens')
    return mask[:, 1:] if with_class else mask


def share_of_zeros(x: Tensor) -> Tensor:
    return (x == 0).double().mean().reshape(1)


def as_stored(case: Case, approx: Tensor, coef: Tensor,
              predictor: MaskPredictor) -> Tensor:
    """Predicted attention, of pruned keys too if the fixture has it."""
    if case['out/approx_attn'].isfinite().all():
        return coef @ predictor.basis()
    return approx


def run_predictor(case: Case, reading: Reading) -> dict[str, Tensor]:
    predictor = make_predictor(case, reading)
    load(predictor, case.group('param'))
    predictor.train(case.hyper['train'])
    q, k = (case[f'in/{key}'].clone().requires_grad_() for key in 'qk')
    left = mask_of(case, 'in/token_mask')
    approx = predictor(q, k, left)
    coef = predictor.mixture(q, k, left)
    mask = predictor.mask(approx, left)
    approx = as_stored(case, approx, coef, predictor)
    # shared, a parameter has two names
    parameters = predictor.named_parameters(remove_duplicate=False)
    leaves = {'q': q, 'k': k, **dict(parameters)}
    seen = approx.masked_fill(approx.isinf(), 0)
    total = (seen * case['in/cotangent']).sum()
    return {
        'out/approx_attn': approx,
        'out/attn_mask': mask,
        'out/basis_coef': coef,
        'out/basis_sparsity': share_of_zeros(predictor.basis()),
        'out/basis_coef_sparsity': share_of_zeros(coef),
        'out/attn_mask_sparsity': share_of_zeros(mask),
        **gradients(case, total, leaves)
    }


def make_block(case: Case, reading: Reading) -> TokenPruningLayer:
    hyper = case.hyper
    params = case.group('param')
    block = TransformerEncoderLayer(
        hyper['dim'],
        hyper['num_heads'],
        int(hyper['dim'] * hyper['mlp_ratio']),
        qkv_bias='attn.qkv.bias' in params,
        norm_cfg=dict(type='LN', eps=hyper['ln_eps']))
    SparseAttention.swap(block.attn, make_predictor(case, reading, _PREFIX))
    rate = hyper['token_keep_rate'] if hyper['token_pruning'] else None
    pruner = None
    if rate:
        pruner = Pruner(rate)
        pruner.reading = reading
    TokenPruningLayer.swap(block, pruner, False)
    state = {}
    for name, value in params.items():
        for official, ours in _NAMES.items():
            name = name.replace(official, ours)
        state[name] = value
    load(block, state)
    block.train(hyper['train'])
    return block


def run_block(case: Case, reading: Reading) -> dict[str, Tensor]:
    block = make_block(case, reading)
    x = case['in/x'].clone().requires_grad_()
    left = mask_of(case, 'in/prev_token_mask')
    seen = {}
    predictor = block.attn.mask_predictor
    predictor.register_forward_hook(
        lambda module, args, out: seen.update(approx_attn=out))
    y, token_mask = block.run(x, left)
    q, k, _ = block.attn.split_qkv(block.ln1(x))
    approx, coef = seen['approx_attn'], predictor.mixture(q, k, left)
    names = {ours: official for official, ours in _NAMES.items()}
    leaves = {'x': x}
    for name, parameter in block.named_parameters(remove_duplicate=False):
        for ours, official in names.items():
            name = name.replace(ours, official)
        leaves[name] = parameter
    result = {
        'out/x': y,
        'out/masked_attn': block.attn.maps(q, k, left),
        'out/unmasked_attn':
        (q @ k.mT * block.attn.head_dims**-0.5).softmax(-1),
        'out/attn_mask': predictor.mask(approx, left),
        'out/approx_attn': as_stored(case, approx, coef, predictor),
        **gradients(case, (y * case['in/cotangent']).sum(), leaves)
    }
    if 'out/token_mask' in case and token_mask is not None:
        result['out/token_mask'] = token_mask.reshape(
            case['out/token_mask'].shape)
    return result


def run_loss(case: Case) -> dict[str, Tensor]:
    hyper = case.hyper
    leaves = {
        key: case[f'in/{key}'].clone().requires_grad_()
        for key in ('logits_s', 'feat_s', 'approx_attn')
    }
    logits, feats, approx = leaves.values()
    mask = next((mask_of(case, f'in/{key}')
                 for key in case.group('in') if 'mask' in key), None)

    def tokens(weight: float) -> Tensor:
        loss = TokenDistillLoss(hyper['token_criterion'].lower(), 0, weight)
        student = feats if mask is None else dict(tokens=feats, mask=mask)
        return loss(student, case['in/feat_t'])

    losses = dict(
        cls=lambda weight: weight * F.cross_entropy(logits, case['in/label']),
        cls_distill=lambda weight: KDLoss(1.0, 'batchmean', weight)
        (logits, case['in/logits_t']),
        token_distill=tokens,
        attn_recon=lambda weight: AttentionReconLoss(loss_weight=weight)
        (list(approx), list(case['in/attn_t'])))
    weighted = {
        name: loss(hyper[f'{name}_weight'])
        for name, loss in losses.items()
        if hyper.get(f'{name}_weight') is not None
    }
    total = sum(weighted.values())
    return {
        'out/total': total.reshape(1),
        **{
            f'out/{name}_loss': value.reshape(1)
            for name, value in weighted.items()
        },
        **gradients(case, total, leaves)
    }


def run(case: Case) -> dict[str, Tensor]:
    """Compute what a fixture stores."""
    if 'in/logits_s' in case:
        return run_loss(case)
    if 'in/q' in case:
        return read(case, run_predictor)
    return read(case, run_block)
