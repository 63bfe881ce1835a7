"""MGD, one level in each file; segmentation adds CWD of the logits."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import CWDLoss, MGDLoss


def run(case: Case) -> dict[str, Tensor]:
    """Losses, what was generated, and gradients."""
    names = ('student_channels', 'teacher_channels', 'alpha_mgd', 'lambda_mgd',
             'mask_type')
    loss = MGDLoss(**{k: case.hyper[k] for k in names})
    loss.to(case['in/preds_S'].dtype).draw_mask = lambda *_: case['in/mask']
    params = case.group('param')
    loss.load_state_dict({f'levels.0.{k}': v for k, v in params.items()})
    student = case['in/preds_S'].clone().requires_grad_()
    feature_loss, = loss([student], [case['in/preds_T']])
    total, result = feature_loss, {}
    if case.hyper.get('use_logit'):
        logits = case['in/logits_S'].clone().requires_grad_()
        logit_loss = CWDLoss(case.hyper['logit_tau'],
                             case.hyper['logit_weight'])(logits,
                                                         case['in/logits_T'])
        total = total + logit_loss
        total.backward()
        result = {'out/loss_logit': logit_loss, 'grad/logits_S': logits.grad}
    else:
        total.backward()
    with torch.no_grad():
        generated = loss.levels[0](student, case['in/mask'])
    grads = {
        f'grad/param/{k.removeprefix("levels.0.")}': v.grad
        for k, v in loss.named_parameters()
    }
    return {
        'out/loss': total,
        'out/loss_mgd_fea': feature_loss,
        'out/generated': generated,
        'grad/preds_S': student.grad,
        **result,
        **grads
    }
