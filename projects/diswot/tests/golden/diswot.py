"""DisWOT: distances, scores, and the distances as losses.

``in/feat_*``, ``in/label`` and ``param/fc_*.weight`` give the outputs of the
kind ``score``; ``in/feat_*`` alone, or with logits, those of ``distill``.
"""
import torch
import torch.nn.functional as F
from diswot.distances import (channel_semantic_distance, fc_gradient,
                              relation_distance, semantic_distance)
from diswot.losses import ChannelSemanticLoss, RelationDistanceLoss
from diswot.scoring import Distances, Scoring
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import KDLoss


def _gradient(case: Case, side: str) -> Tensor:
    pooled = case[f'in/feat_{side}'].flatten(2).mean(2)
    bias = case.arrays.get(f'param/fc_{side}.bias')
    logits = F.linear(pooled, case[f'param/fc_{side}.weight'], bias)
    return fc_gradient(pooled, logits, case['in/label'].long())


def _score(case: Case) -> dict[str, Tensor]:
    hyper = case.hyper
    weights = (hyper.get('w_semantic', 1.0), hyper.get('w_relation', 1.0))
    relation = relation_distance(case['in/feat_s'], case['in/feat_t'])
    out = {
        'out/relation_distance': relation,
        'out/score_relation': -relation,
    }
    gradients = [_gradient(case, side) for side in 'st']
    out.update({f'out/grad_fc_{s}': g for s, g in zip('st', gradients)})
    semantic = None
    if gradients[0].shape == gradients[1].shape:
        semantic = semantic_distance(*gradients)
        # the same by the general form
        torch.testing.assert_close(
            semantic,
            channel_semantic_distance(*(g[..., None] for g in gradients)))
        out.update({
            'out/semantic_distance': semantic,
            'out/score_semantic': -semantic
        })
    else:
        weights = (0.0, weights[1] or 1.0)
    distances = Distances(relation.item(),
                          None if semantic is None else semantic.item())
    score, = Scoring(*weights).scores([distances])
    return {**out, 'out/score': torch.tensor(score, dtype=torch.double)}


def _loss(loss, case: Case, name: str) -> dict[str, Tensor]:
    student = case['in/feat_s'].clone().requires_grad_()
    value = loss(student, case['in/feat_t'])
    gradient, = torch.autograd.grad(value, student)
    return {f'out/loss_{name}': value, f'grad/feat_s_{name}': gradient}


def _plain_kd(case: Case) -> dict[str, Tensor]:
    hyper = case.hyper
    logits = case['in/logit_s'].clone().requires_grad_()
    # the loss refuses a single class, whose softmax is always 1
    kd = logits.sum() * 0 if logits.shape[1] == 1 else KDLoss(
        tau=hyper.get('kd_T', 4.0))(logits, case['in/logit_t'])
    out = {'out/loss_kd': kd}
    # without labels, it is all there is
    total = kd
    if 'in/label' in case:
        ce = F.cross_entropy(logits, case['in/label'].long())
        total = hyper.get('r', 0.1) * ce + hyper.get('a', 0.9) * kd
        out.update({'out/loss_ce': ce, 'out/loss_kd_total': total})
    return {**out, 'grad/logit_s': torch.autograd.grad(total, logits)[0]}


def _distill(case: Case) -> dict[str, Tensor]:
    out = {}
    if 'in/feat_s' in case:
        out.update(_loss(RelationDistanceLoss(1.0), case, 'relation'))
        if case['in/feat_s'].shape[1] == case['in/feat_t'].shape[1]:
            out.update(_loss(ChannelSemanticLoss(1.0), case, 'semantic'))
    if 'in/logit_s' in case:
        out.update(_plain_kd(case))
    return out


def run(case: Case) -> dict[str, Tensor] | None:
    """Scores where there are classifiers, else losses."""
    with_classifiers = 'param/fc_s.weight' in case
    return (_score(case) if with_classifiers else _distill(case)) or None
