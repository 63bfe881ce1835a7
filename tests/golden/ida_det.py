"""Adapter of the IDa-Det fixtures."""
import torch
import torch.nn as nn
from golden import Case
from golden.one_bit import finish, load
from torch import Tensor

from mmcompress.binary import IDaDetConv2d, IDaDetFPN
from mmcompress.binary.backbones.bi_resnet import BiBlock
from mmcompress.deploy.fold import fold_affine
from mmcompress.distill.losses import IDaDetLoss
from mmcompress.distill.losses.ida_det import (entropy_loss, project,
                                               region_discrepancy)
from mmcompress.ops import (binary_conv2d, binary_pack, binary_prepack,
                            binary_unpack)


def conv_cfg(case: Case) -> dict:
    """The 1-bit convolution as the official code trains it."""
    hyper = case.hyper
    return dict(
        type='mmcompress.IDaDetConv2d',
        bin=hyper.get('bin', 0.02),
        recon_weight=hyper.get('recon_weight', 1e-4),
        zero_as=hyper.get('zero_as', 'zero'),
        variant='official')


def run_biconv(case: Case) -> dict[str, Tensor]:
    """A 1-bit convolution."""
    hyper = case.hyper
    weight = case['param/weight']
    groups = hyper.get('groups', 1)
    cfg = conv_cfg(case)
    cfg.pop('type')
    conv = IDaDetConv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        tuple(weight.shape[2:]),
        hyper.get('stride', 1),
        hyper.get('padding', 0),
        hyper.get('dilation', 1),
        groups,
        bias='param/bias' in case,
        **cfg)
    load(conv, case.group('param'))
    x = case['in/x'].clone().requires_grad_()
    return finish(case, conv, dict(x=x), dict(y=(conv(x), case['in/g'])))


def run_res_layer(case: Case) -> dict[str, Tensor]:
    """A sequence of residual blocks."""
    hyper = case.hyper
    norm_cfg = dict(
        type='BN',
        eps=hyper.get('bn_eps', 1e-5),
        momentum=hyper.get('bn_momentum', 0.1))
    channels = hyper['in_channels'], hyper['out_channels']
    layer = nn.Sequential()
    for i in range(hyper['blocks']):
        layer.append(
            BiBlock(channels[min(i, 1)],
                    channels[1], hyper['stride'] if i == 0 else 1,
                    conv_cfg(case), norm_cfg))
    load(layer, case.group('param')).train(hyper.get('bn_train', False))
    x = case['in/x'].clone().requires_grad_()
    return finish(case, layer, dict(x=x), dict(y=(layer(x), case['in/g'])))


def run_fpn(case: Case) -> dict[str, Tensor]:
    """The 1-bit FPN."""
    hyper = case.hyper
    fpn = IDaDetFPN(hyper['in_channels'], hyper['out_channels'],
                    hyper['num_outs'], conv_cfg(case))
    load(fpn, case.group('param'))
    inputs = {
        f'x{i}': case[f'in/x{i}'].clone().requires_grad_()
        for i in range(len(hyper['in_channels']))
    }
    outs = fpn(tuple(inputs.values()))
    return finish(case, fpn, inputs, {
        f'y{i}': (y, case[f'in/g{i}'])
        for i, y in enumerate(outs)
    })


def run_rpn_head(case: Case) -> dict[str, Tensor] | None:
    """The 1-bit RPN head on one level; None without mmdet."""
    try:
        from mmcompress.binary import IDaDetRPNHead
    except ImportError:
        return None
    channels, in_channels = case['param/rpn_conv.weight'].shape[:2]
    num_anchors = case['param/rpn_reg.weight'].shape[0] // 4
    num_scores = case['param/rpn_cls.weight'].shape[0] // num_anchors
    head = IDaDetRPNHead(
        in_channels,
        feat_channels=channels,
        conv_cfg=conv_cfg(case),
        anchor_generator=dict(
            type='mmdet.AnchorGenerator',
            scales=[8],
            ratios=list(range(1, num_anchors + 1)),
            strides=[4]),
        bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss', use_sigmoid=num_scores == 1),
        loss_bbox=dict(type='mmdet.L1Loss'))
    load(head, case.group('param'))
    x = case['in/x'].clone().requires_grad_()
    cls, reg = head.forward_single(x)
    return finish(
        case, head, dict(x=x),
        dict(cls=(cls, case['in/g_cls']), reg=(reg, case['in/g_reg'])))


def run_entropy_loss(case: Case) -> dict[str, Tensor]:
    """The entropy distillation loss of one level."""
    student = case['in/student'].clone().requires_grad_()
    sigma = case['param/sigma'].clone().requires_grad_()
    loss = entropy_loss(student, case['in/teacher'], case['in/mask'], sigma,
                        case.hyper.get('det_weight', 1e-3),
                        case.hyper.get('mode', 'official'))
    loss.backward()
    return {
        'out/loss': loss,
        'grad/student': student.grad,
        'grad/sigma': sigma.grad
    }


def official_name(name: str) -> str:
    """``adapters.1.weight`` -> ``neck_adapt.1.0.weight``."""
    if name == 'sigma':
        return 'entropy_loss.sigma'
    _, level, rest = name.split('.')
    return f'neck_adapt.{level}.0.{rest}'


def run_neck_kd(case: Case) -> dict[str, Tensor]:
    """The whole distillation loss, from raw proposals."""
    hyper = case.hyper
    num_levels = hyper['num_levels']
    teacher = [case[f'in/feat_t_{i}'] for i in range(num_levels)]
    student = [
        case[f'in/feat_s_{i}'].clone().requires_grad_()
        for i in range(num_levels)
    ]
    loss = IDaDetLoss(
        channels=teacher[0].shape[1],
        num_levels=num_levels,
        variant=hyper['mode'],
        **{
            key: hyper[key]
            for key in ('score_thr', 'nms_thr', 'gamma', 'det_weight',
                        'hint_neck_w')
        }).double()
    for name, parameter in loss.named_parameters():
        parameter.data.copy_(case[f'param/{official_name(name)}'])
    metas = [
        dict(
            img_shape=tuple(shape.tolist()),
            batch_input_shape=tuple(case['in/batch_input_shape'].tolist()))
        for shape in case['in/img_shapes']
    ]
    proposals = [[
        case[f'in/proposals_{side}_{i}'].reshape(-1, 5)
        for i in range(len(metas))
    ] for side in 'st']

    boxes = loss.boxes(*proposals)
    masks, _ = loss.masks(student, teacher, boxes, metas)
    total = loss.loss_from_proposals(student, teacher, *proposals,
                                     metas)['loss']
    total.backward()

    result = {'out/losskd_neck': total}
    covered = ('img_shape'
               if hyper['mode'] == 'official' else 'batch_input_shape')
    for i, meta in enumerate(metas):
        result[f'out/rois_{i}'] = boxes[i]
        for level in range(num_levels):
            s, t = student[level][i].detach(), teacher[level][i]
            regions = project(boxes[i], s.shape[-2:], meta[covered],
                              hyper['mode'])
            result[f'out/discrepancy_{level}_{i}'] = region_discrepancy(
                s, t, regions, hyper['mode'])
    for level, value in enumerate(loss.level_losses(student, teacher, masks)):
        result[f'out/loss_level_{level}'] = value
        result[f'out/mask_{level}'] = masks[level]
        result[f'grad/feat_s_{level}'] = student[level].grad
    for name, parameter in loss.named_parameters():
        result[f'grad/{official_name(name)}'] = parameter.grad
    return result


def run_packed_block(case: Case) -> dict[str, Tensor]:
    """Inference of one block with bits: integers, and what is folded."""
    hyper = case.hyper
    out_channels, in_channels = case['param/conv.weight'].shape[:2]
    block = BiBlock(
        in_channels,
        out_channels,
        hyper['stride'],
        conv_cfg=dict(type='mmcompress.IDaDetConv2d', zero_as='neg'),
        norm_cfg=dict(type='BN', eps=hyper.get('bn_eps', 1e-5)),
        bias='param/conv.bias' in case)
    load(block, case.group('param')).eval().requires_grad_(False)
    rule = block.conv.inference_rule()
    scale, shift = fold_affine(rule, block.bn1)
    threshold = rule.threshold - block.move0.bias.flatten()

    x = case['in/x']
    bits = binary_pack(x.float(), threshold.float())
    weight_bits = binary_pack(rule.codes.float())
    shape = list(rule.codes.shape)
    counts = [
        binary_conv2d(bits, binary_prepack(weight_bits,
                                           shape), shape, rule.stride,
                      rule.padding, rule.dilation, rule.groups, pad_value)
        for pad_value in (0, -1)
    ]
    conv_bn = scale.view(-1, 1, 1) * counts[0] + shift.view(-1, 1, 1)
    y = block.move2(block.prelu(block.move1(conv_bn + block.downsample(x))))
    return {
        'out/threshold': threshold,
        'out/x_bits': binary_unpack(bits, in_channels) > 0,
        'out/w_bits': binary_unpack(weight_bits, in_channels) > 0,
        'out/k': counts[0],
        'out/k_pad_minus_one': counts[1],
        'out/tap_sums': rule.codes.sum(1),
        'out/A': scale,
        'out/B': shift,
        'out/conv_bn': conv_bn,
        'out/block': y
    }


KINDS = dict(
    biconv=run_biconv,
    res_layer=run_res_layer,
    fpn=run_fpn,
    rpn_head=run_rpn_head,
    entropy_loss=run_entropy_loss,
    neck_kd=run_neck_kd,
    packed_block=run_packed_block)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    torch.manual_seed(0)
    adapter = KINDS.get(case.kind)
    return None if adapter is None else adapter(case)
