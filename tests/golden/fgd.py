"""FGD, one level in each file."""
from types import SimpleNamespace

import torch
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import FGDLoss
from mmcompress.distill.losses.fgd import attention, foreground_background

# official name -> ours
_NAMES = {
    'align': 'align',
    'conv_mask_s': 'context_s.mask',
    'conv_mask_t': 'context_t.mask',
    'channel_add_conv_s': 'context_s.add',
    'channel_add_conv_t': 'context_t.add',
}


def _ours(name: str) -> str:
    head, _, rest = name.partition('.')
    return f'levels.0.{_NAMES[head]}.{rest}'


def run(case: Case) -> dict[str, Tensor]:
    """Loss, its terms, masks, attentions and gradients of a level."""
    hyper = {
        k: v
        for k, v in case.hyper.items()
        if k not in ('init', 'params_without_grad')
    }
    loss = FGDLoss(num_levels=1, **hyper).to(case['in/preds_S'].dtype)
    params = case.group('param')
    loss.load_state_dict({_ours(k): v for k, v in params.items()})
    student = case['in/preds_S'].clone().requires_grad_()
    teacher = case['in/preds_T']
    boxes = case['in/gt_bboxes'].split(case['in/num_gts'].tolist())
    sizes = case['in/img_shapes'].tolist()
    samples = [
        SimpleNamespace(
            gt_instances=SimpleNamespace(bboxes=b),
            metainfo=dict(img_shape=tuple(size)))
        for b, size in zip(boxes, sizes)
    ]
    total, = loss([student], [teacher], samples)
    total.backward()
    level = loss.levels[0]
    masks = [
        torch.stack(m)
        for m in zip(*(foreground_background(b, size, student.shape[-2:])
                       for b, size in zip(boxes, sizes)))
    ]
    with torch.no_grad():
        terms = level(student, teacher, *masks)
        maps = dict(
            zip(('S_attention_s', 'C_attention_s'),
                attention(level.align(student), hyper['temp'])))
        maps.update(
            zip(('S_attention_t', 'C_attention_t'),
                attention(teacher, hyper['temp'])))
    result = {
        'out/loss': total,
        'out/fg_loss': terms['foreground'],
        'out/bg_loss': terms['background'],
        'out/attention_loss': terms['attention'],
        'out/relation_loss': terms['relation'],
        'out/mask_fg': masks[0],
        'out/mask_bg': masks[1],
        **{
            f'out/{k}': v
            for k, v in maps.items()
        }, 'grad/preds_S': student.grad
    }
    ours = dict(loss.named_parameters())
    for name, value in params.items():
        grad = ours[_ours(name)].grad
        result[f'grad/param/{name}'] = torch.zeros_like(
            value) if grad is None else grad
    return result
