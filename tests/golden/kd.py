"""Classic KD and feature L2, which come in files of one method."""
import torch
from golden import Case
from torch import Tensor, nn

from mmcompress.distill.losses import FeatureL2Loss, KDLoss

LOSSES = dict(KLDivergence=KDLoss, L2Loss=FeatureL2Loss)


def run_pair(loss: nn.Module, case: Case) -> dict[str, Tensor]:
    """Loss and gradient of all inputs that are the student's.

    Inputs are pairs such as ``preds_S`` and ``preds_T``, or ``s_feature`` and
    ``t_feature``, each possibly a tuple ``.0``, ``.1``, ... of levels.
    """
    inputs = case.group('in')
    students = {
        k: v.clone().requires_grad_()
        for k, v in inputs.items()
        if k.split('.')[0].endswith('_S') or k.startswith('s_')
    }
    teachers = [v for k, v in inputs.items() if k not in students]
    total = sum(map(loss, students.values(), teachers))
    gradients = torch.autograd.grad(total.sum(), list(students.values()))
    return {
        'out/loss': total,
        **{
            f'grad/{k}': g
            for k, g in zip(students, gradients)
        }
    }


def run(case: Case) -> dict[str, Tensor] | None:
    """Run the loss that ``hyper['type']`` names."""
    hyper = dict(case.hyper)
    loss = LOSSES.get(hyper.pop('type'))
    return None if loss is None else run_pair(loss(**hyper), case)
