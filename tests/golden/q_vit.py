"""Q-ViT."""
import torch
from golden import Case
from golden.nkd import labelled
from mmengine.registry import DefaultScope
from torch import Tensor

from mmcompress.distill.losses import DGDLoss, HardKDLoss, KDLoss
from mmcompress.distill.losses.q_vit import token_similarity
from mmcompress.registry import MODELS


def _dgd(case: Case) -> dict[str, Tensor]:
    """Loss of all layers, and the student's similarities."""
    hyper = {k: v for k, v in case.hyper.items() if k in ('norm', 'eps')}
    student = {
        key: case[f'in/{key}_s'].clone().requires_grad_()
        for key in 'qk'
    }
    teacher = {key: list(case[f'in/{key}_t']) for key in 'qk'}
    loss = DGDLoss(**hyper)({k: list(v) for k, v in student.items()}, teacher)
    grads = torch.autograd.grad(loss, list(student.values()))
    return {
        'out/loss': loss,
        **{f'out/sim_{k}': token_similarity(case[f'in/{k}'], **hyper)
           for k in ('q_s', 'k_s', 'q_t', 'k_t')},
        **{f'grad/{k}_s': g
           for k, g in zip(student, grads)}
    }  # yapf: disable


def _distillation(case: Case) -> dict[str, Tensor]:
    """Labels for the class token, the teacher for the other one."""
    logits = {
        key: case[f'in/{key}'].clone().requires_grad_()
        for key in ('logits_cls', 'logits_dist')
    }
    hyper = dict(case.hyper)
    kind, alpha = hyper['type'], hyper['alpha']
    num_classes = logits['logits_cls'].shape[1]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = MODELS.build(
            dict(
                type='mmcompress.QDeiTClsHead',
                num_classes=num_classes,
                in_channels=num_classes,
                loss=dict(
                    type='CrossEntropyLoss',
                    loss_weight=1 - alpha if kind != 'none' else 1.0)))
    # so that the tokens are the logits
    for layer in head.layers:
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    feats = (tuple(logits.values()), )
    head.double()
    total = head.loss(feats, labelled(case['in/labels']))['loss']
    taught = head.both(feats)[1], case['in/teacher_logits']
    if kind == 'hard':
        total = total + HardKDLoss(alpha)(*taught)
    elif kind == 'soft':
        total = total + KDLoss(hyper['tau'], 'mean', alpha)(*taught)
    grads = torch.autograd.grad(
        total, list(logits.values()), materialize_grads=True)
    return {
        'out/loss': total,
        **{f'grad/{k}': g
           for k, g in zip(logits, grads)}
    }  # yapf: disable


_KINDS = dict(DGD=_dgd, DistillationLoss=_distillation)


def run(case: Case) -> dict[str, Tensor] | None:
    """What the fixture's kind asks for."""
    return _KINDS[case.kind](case) if case.kind in _KINDS else None
