"""Bi-ViT."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import RankDistillLoss


def _rank(case: Case) -> dict[str, Tensor]:
    """Loss of one layer's attention; the draw of pairs may be stored."""
    student = case['in/A_s'].clone().requires_grad_()
    loss = RankDistillLoss(
        theta=case.hyper.get('theta', 0.0),
        num_pairs=case.hyper.get('num_pairs'))
    if 'in/pairs' in case:
        # (..., P, 2)
        pairs = case['in/pairs'].long().unbind(-1)
        loss.num_pairs, loss.draw_pairs = 0, lambda *_: pairs
    value = loss([student], [case['in/A_t']])
    grad, = torch.autograd.grad(value, student)
    return {'out/loss': value, 'grad/A_s': grad}


_KINDS = dict(RankDistill=_rank)


def run(case: Case) -> dict[str, Tensor] | None:
    """What the fixture's kind asks for."""
    return _KINDS[case.kind](case) if case.kind in _KINDS else None
