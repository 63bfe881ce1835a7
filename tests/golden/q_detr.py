"""Q-DETR."""
from types import SimpleNamespace

import torch
from golden import Case
from torch import Tensor

from mmcompress.distill.losses import DRDLoss
from mmcompress.distill.losses.q_detr import foreground_queries


def _drd(case: Case) -> dict[str, Tensor]:
    """Which queries count, their matches, and both reductions."""
    gt = [b[:num] for b, num in zip(case['in/gt_boxes'], case['in/num_gt'])]
    # corners in pixels of an image of 1 x 1
    samples = [
        SimpleNamespace(
            gt_instances=SimpleNamespace(
                bboxes=torch.cat(
                    [b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1)),
            metainfo=dict(img_shape=(1, 1))) for b in gt
    ]
    teacher = dict(features=case['in/D_t'], boxes=case['in/boxes_t'])
    result = {}
    for suffix, reduction in (('', 'query'), ('_image_fro', 'image_fro')):
        features = case['in/D_s'].clone().requires_grad_()
        loss = DRDLoss(loss_weight=1.0, reduction=reduction, **{
            k: case.hyper[k] for k in ('tau', 'mu1', 'mu2')
            if k in case.hyper
        })  # yapf: disable
        value = loss(
            dict(features=features, boxes=case['in/boxes_s']), teacher,
            samples)
        result[f'out/loss{suffix}'] = value
        result[f'grad/D_s{suffix}'], = torch.autograd.grad(value, features)
    selected = [
        loss.select(*boxes)
        for boxes in zip(case['in/boxes_s'], case['in/boxes_t'], gt)
    ]
    keep, match = map(torch.stack, zip(*selected))
    best = torch.zeros(case['in/gt_boxes'].shape[:2], dtype=torch.double)
    for row, boxes, b in zip(best, case['in/boxes_s'], gt):
        row[:len(b)] = foreground_queries(boxes, b, loss.tau)[1]
    return {
        **result, 'out/keep': keep,
        'out/match_t': match.where(keep, -1),
        'out/G': best
    }


_KINDS = dict(DRD=_drd)


def run(case: Case) -> dict[str, Tensor] | None:
    """What the fixture's kind asks for."""
    return _KINDS[case.kind](case) if case.kind in _KINDS else None
