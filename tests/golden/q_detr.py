"""Adapter of the Q-DETR fixtures."""
from types import SimpleNamespace

import torch
from golden import Case
from golden.attention import run_multihead_attention
from golden.low_bit import finish, leaf, run_quantizer
from golden.q_vit import input_quant, run_linear, weight_quant
from torch import Tensor

from mmcompress.distill.losses import DRDLoss
from mmcompress.distill.losses.q_detr import foreground_queries
from mmcompress.quantization import LSQ, DistributionAlignment, Spec


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActLSQ``, whose axis is the first one of its size."""
    size = len(case['param/alpha'])
    axis = list(case['in/x'].shape).index(size)
    if 'axis' in case.hyper:
        axis = case.hyper['axis']
    cfg = input_quant(case.hyper['bits'])
    del cfg['type']
    return run_quantizer(case, LSQ(axis=axis, size=size, **cfg))


def run_drd(case: Case) -> dict[str, Tensor]:
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


def run_alignment(case: Case) -> dict[str, Tensor]:
    """``DistributionAlignment``, whose official scale has four dimensions."""
    x = leaf(case)
    norm = DistributionAlignment(x.shape[-1], case.hyper['eps']).to(x.dtype)
    scale = case['param/scale']
    with torch.no_grad():
        norm.scale.copy_(scale.flatten())
        norm.bias.copy_(case['param/bias'])
    result = finish(case, dict(x=x), dict(norm.named_parameters()), norm(x))
    result['grad/scale'] = result['grad/scale'].view_as(scale)
    return result


def run_attention(case: Case) -> dict[str, Tensor]:
    """``QuantMultiheadAttention``, which projects real inputs."""
    align = case.hyper['align_query']
    result = run_multihead_attention(
        case,
        Spec(
            weight=weight_quant(case.hyper['bits']),
            attention=input_quant(case.hyper.get('attn_bits', 8)),
            query_norm=dict(type='DistributionAlignment') if align else None))
    for key in result:
        if key.endswith('norm_q.scale'):
            result[key] = result[key].view_as(case[key])
    return result


_RUN = dict(
    LinearLSQ=run_linear,
    Conv2dLSQ=run_linear,
    ActLSQ=run_act,
    DRD=run_drd,
    DistributionAlignment=run_alignment,
    QuantMultiheadAttention=run_attention,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
