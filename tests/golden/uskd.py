"""USKD, and tf-NKD, whose files have no feature."""
import copy

import torch
from golden import Case
from golden.nkd import labelled
from torch import Tensor

from mmcompress.distill.losses import TfNKDLoss, USKDLoss
from mmcompress.distill.losses.uskd import (rank_positions, soft_target,
                                            target_loss, top_targets)


def _run_tf_nkd(case: Case) -> dict[str, Tensor]:
    """The loss, its term for each labelled class, and the gradient."""
    logits = case['in/logit_s'].clone().requires_grad_()
    loss = TfNKDLoss()(logits, labelled(case['in/gt_label']))
    grad, = torch.autograd.grad(loss, logits)
    index, share = top_targets(case['in/gt_label'])
    terms = {
        f'out/loss_tf_nkd{k}':
        target_loss(logits, index[:, [k]], share[:, [k]].to(logits), power=1)
        for k in range(index.shape[1])
    }
    return {'out/loss': loss, **terms, 'grad/logit_s': grad}


def run(case: Case) -> dict[str, Tensor]:
    """Terms, ranks, soft labels and gradients."""
    if 'in/fea_mid' not in case:
        return _run_tf_nkd(case)
    loss = USKDLoss(**case.hyper).to(case['in/fea_mid'].dtype)
    loss.load_state_dict(case.group('param'))
    # stored terms are not weighted, but for the weak one
    unweighted = copy.deepcopy(loss)
    unweighted.alpha = unweighted.beta = 1.0
    feature = case['in/fea_mid'].clone().requires_grad_()
    logits = case['in/logit_s'].clone().requires_grad_()
    inputs = (dict(feature=feature,
                   logits=logits), labelled(case['in/gt_label']))
    terms = unweighted(*inputs)
    total = sum(loss(*inputs).values())
    total.backward()
    index, share = top_targets(case['in/gt_label'])
    share = share.to(logits)
    weak = loss.fc(feature)
    labels, left_out = loss.nontarget_labels(weak, logits, index, share)
    prob = logits.detach().softmax(1).gather(1, index)
    return {
        'out/loss':
        total,
        **{
            f'out/{k}': v
            for k, v in terms.items()
        }, 'out/soft_target':
        soft_target(prob, share, power=2),
        'out/soft_nontarget':
        labels[~left_out].view(len(labels), -1),
        'out/rank_position':
        rank_positions(weak.detach(), logits.detach(), index, loss.rank_score),
        'grad/fea_mid':
        feature.grad,
        'grad/logit_s':
        logits.grad,
        'grad/fc.weight':
        loss.fc.weight.grad,
        'grad/fc.bias':
        loss.fc.bias.grad
    }
