"""Adapter of the DWPose fixtures: losses, steps of both stages, transfer."""
from contextlib import contextmanager

import torch
import torch.nn as nn
from golden import Case
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.distill.converters import convert_dwpose
from mmcompress.distill.losses import DWPoseFeatureLoss, DWPoseLogitLoss
from mmcompress.registry import MODELS


@MODELS.register_module()
class GivenFeature(nn.Module):
    """Stand-in backbone: the image's channels ``start`` to ``stop``."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.channels = slice(start, stop)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """The only level."""
        return x[:, self.channels],


@contextmanager
def epoch(number: int, max_epochs: int):
    """As within a training's epoch, counted from 0."""
    hub = MessageHub.get_instance('golden_dwpose')
    hub.update_info('epoch', number)
    hub.update_info('max_epochs', max_epochs)
    try:
        yield
    finally:
        MessageHub._instance_dict.pop('golden_dwpose')


def run_fea_loss(case: Case) -> dict[str, Tensor]:
    """The feature loss."""
    hyper = case.hyper
    loss = DWPoseFeatureLoss(hyper['student_channels'],
                             hyper['teacher_channels'],
                             hyper['alpha_fea']).to(case['in/fea_s'].dtype)
    loss.load_state_dict(case.group('param'))
    feature = case['in/fea_s'].clone().requires_grad_()
    value = loss(feature, case['in/fea_t'])
    value.backward()
    return {
        'out/loss_fea': value,
        'grad/fea_s': feature.grad,
        **{
            f'grad/{k}': p.grad
            for k, p in loss.named_parameters()
        }
    }


def run_kd_loss(case: Case) -> dict[str, Tensor]:
    """The logit loss."""
    loss = DWPoseLogitLoss(case.hyper['weight'], case.hyper['beta'])
    student = [
        case[f'in/pred_s_{axis}'].clone().requires_grad_() for axis in 'xy'
    ]
    value = loss(student, [case[f'in/pred_t_{axis}'] for axis in 'xy'])
    value.backward()
    return {
        'out/loss_logit': value,
        **{
            f'grad/pred_s_{a}': x.grad
            for a, x in zip('xy', student)
        }
    }


def estimator(hyper: dict, start: int, channels: int) -> dict:
    """Config of a pose estimator on given features."""
    return dict(
        type='TopdownPoseEstimator',
        backbone=dict(
            type='mmcompress.GivenFeature', start=start,
            stop=start + channels),
        head=dict(
            type='RTMCCHead',
            in_channels=channels,
            out_channels=hyper['K'],
            input_size=tuple(hyper['input_size']),
            in_featuremap_size=tuple(hyper['in_featuremap_size']),
            simcc_split_ratio=hyper['simcc_split_ratio'],
            final_layer_kernel_size=hyper['final_layer_kernel_size'],
            gau_cfg=dict(dropout_rate=0., drop_path=0.) | hyper['gau'],
            loss=dict(
                type='KLDiscretLoss',
                beta=hyper['beta'],
                label_softmax=hyper['label_softmax'],
                label_beta=hyper.get('label_beta', 10.),
                use_target_weight=hyper['use_target_weight'])))


def losses(hyper: dict, channels: tuple[int, int]) -> dict:
    """Config of the losses of a stage."""
    schedule = None if hyper['two_dis'] else dict(
        type='mmcompress.PiecewiseLinear',
        points=[(0, 1.0), (1, 0.0)],
        by_epoch=True)
    cfg = {}
    if hyper.get('alpha_fea') is not None:
        cfg['loss_fea'] = dict(
            type='mmcompress.DWPoseFeatureLoss',
            student='backbone[-1]',
            teacher='backbone[-1]',
            student_channels=channels[0],
            teacher_channels=channels[1],
            alpha_fea=hyper['alpha_fea'],
            schedule=schedule)
    if hyper.get('w_logit') is not None:
        cfg['loss_logit'] = dict(
            type='mmcompress.DWPoseLogitLoss',
            student='head',
            teacher='head',
            weight=hyper['w_logit'],
            schedule=schedule)
    return cfg


def samples(case: Case) -> list:
    """Labels as mmpose's codec makes them."""
    from mmpose.structures import PoseDataSample
    return [
        PoseDataSample(
            gt_instance_labels=InstanceData(
                keypoint_x_labels=x[None],
                keypoint_y_labels=y[None],
                keypoint_weights=weights[None])) for x, y, weights in
        zip(case['in/gt_x'], case['in/gt_y'], case['in/keypoint_weights'])
    ]


def official_name(key: str) -> str:
    """Name of a student's parameter in the official wrapper."""
    if key.startswith('distill.'):
        return key.replace('distill.', 'distill_losses.', 1)
    return f'student.{key}'


def run_step(case: Case) -> dict[str, Tensor]:
    """A training step of either stage."""
    hyper = case.hyper
    features = [case['in/fea_t']]
    if not hyper['two_dis']:
        features.append(case['in/fea_s'])
    channels = [f.shape[1] for f in features]
    start = 0 if hyper['two_dis'] else channels[0]
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(
            ConfigDict(
                type='mmcompress.Distill',
                student=estimator(hyper, start, channels[-1]),
                teacher=dict(
                    cfg=estimator(hyper, 0, channels[0]), allow_random=True),
                head_only=hyper['two_dis'],
                losses=losses(hyper, (channels[-1], channels[0]))))
        model.distill.prepare()
    model.double().train()
    own = dict(model.named_parameters())
    for key, parameter in own.items():
        parameter.data.copy_(case[f'param/{official_name(key)}'])
    teacher = model.distill.teacher.model.double()
    teacher.load_state_dict({
        key.removeprefix('teacher.'): value
        for key, value in case.group('param').items()
        if key.startswith('teacher.')
    })

    image = torch.cat(features, 1).requires_grad_()
    with epoch(hyper['epoch'], hyper['max_epochs']):
        losses_ = model(image, samples(case), mode='loss')
    total, _ = model.parse_losses(losses_)
    total.backward()
    result = {f'out/{key}': value for key, value in losses_.items()}
    result['out/total'] = total
    result['grad/fea_s'] = image.grad[:, start:]
    for key, parameter in own.items():
        result[f'grad/{official_name(key)}'] = parameter.grad
    for side, net, part in (('t', teacher, slice(channels[0])),
                            ('s', model, slice(start, None))):
        logits = net.head.forward((image[:, part], ))
        result.update(
            (f'out/pred_{side}_{a}', x) for a, x in zip('xy', logits))
    return result


def run_transfer(case: Case) -> dict[str, Tensor]:
    """What is left of an official wrapper's checkpoint."""
    hyper = case.hyper
    converted = convert_dwpose(
        dict(meta={}, state_dict=case.group('in'), optimizer={}, epoch=1),
        hyper['two_dis'])
    assert sorted(converted) == sorted(hyper['top_level_keys_kept'])
    state = converted['state_dict']
    assert list(state) == hyper['out_key_order']
    return {f'out/{key}': value for key, value in state.items()}


KINDS = dict(
    fea_loss=run_fea_loss,
    kd_loss=run_kd_loss,
    s1_step=run_step,
    s2_step=run_step,
    transfer=run_transfer)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    adapter = KINDS.get(case.kind)
    return None if adapter is None else adapter(case)
