"""NKD."""
import torch
from golden import Case
from mmpretrain.structures import DataSample
from torch import Tensor

from mmcompress.distill.losses import NKDLoss


def labelled(target: Tensor) -> list[DataSample]:
    """Data samples with class indices (N, ) or soft labels (N, C)."""
    if target.dim() == 2:
        return [DataSample().set_gt_score(score) for score in target]
    return [DataSample().set_gt_label(label) for label in target]


def run(case: Case) -> dict[str, Tensor]:
    """Both parts of the loss, and the gradient of the student's logits."""
    student = case['in/logit_s'].clone().requires_grad_()
    losses = NKDLoss(**case.hyper)(student, case['in/logit_t'],
                                   labelled(case['in/gt_label']))
    total = sum(losses.values())
    grad, = torch.autograd.grad(total, student)
    return {
        'out/loss': total,
        **{
            f'out/{k}': v
            for k, v in losses.items()
        }, 'grad/logit_s': grad
    }
