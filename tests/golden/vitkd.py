"""ViTKD, alone or together with NKD and the label-smoothed task loss."""
import torch
from golden import Case
from golden.nkd import labelled
from torch import Tensor

from mmcompress.distill.losses import NKDLoss, ViTKDLoss
from mmcompress.distill.losses.vitkd import dropped_tokens

_NAMES = ('student_dims', 'teacher_dims', 'alpha_vitkd', 'beta_vitkd',
          'lambda_vitkd')


def _tapped(low: Tensor, high: Tensor) -> dict:
    return dict(low=list(low.unbind(1)), high=high)


def run(case: Case) -> dict[str, Tensor]:
    """Losses, the mask and all gradients."""
    inputs = {
        k: v.clone().requires_grad_()
        for k, v in case.group('in').items()
        if k in ('low_s', 'high_s', 'logit_s')
    }
    loss = ViTKDLoss(
        **{
            k: case.hyper[k]
            for k in _NAMES
        },
        num_low=case['in/low_s'].shape[1],
        student_extra_tokens=0,
        teacher_extra_tokens=0).to(case['in/low_s'].dtype)
    loss.load_state_dict(case.group('param'))
    loss.draw_noise = lambda _: case['in/noise']
    terms = loss(
        _tapped(inputs['low_s'], inputs['high_s']),
        _tapped(case['in/low_t'], case['in/high_t']))
    total, result = sum(terms.values()), {}
    result['out/loss'] = total
    if 'logit_s' in inputs:
        target = case['in/gt_label']
        nkd = NKDLoss(case.hyper['nkd_temp'], case.hyper['nkd_gamma'])
        nkd_loss = sum(
            nkd(inputs['logit_s'], case['in/logit_t'],
                labelled(target)).values())
        task = _task_loss(inputs['logit_s'], target,
                          case.hyper['label_smooth'])
        total = total + nkd_loss + task
        result.update({
            'out/loss_nkd': nkd_loss,
            'out/ori_loss': task,
            'out/total': total
        })
    total.backward()
    dropped = dropped_tokens(case['in/noise'], loss.lambda_vitkd)
    return {
        **result,
        **{
            f'out/{k}': v
            for k, v in terms.items()
        }, 'out/mask': dropped.double(),
        **{
            f'grad/{k}': v.grad
            for k, v in (*inputs.items(), *loss.named_parameters())
        }
    }


def _task_loss(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The student's own loss, label-smoothed cross entropy."""
    if target.dim() == 1:
        target = torch.eye(logits.shape[1])[target].to(logits)
    smooth = (1 - smoothing) * target + smoothing / logits.shape[1]
    return -(smooth * logits.log_softmax(1)).sum(1).mean()
