"""Small real RTMPose models for the tests of DWPose."""
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.model.inputs import made_up_batch

STUDENT = Path(__file__).parents[2] / 'configs/dwpose/dwpose_student_mini.py'
FADE = dict(
    type='mmcompress.PiecewiseLinear',
    points=[(0, 1.0), (1, 0.0)],
    by_epoch=True)


def rtmpose(width: float = 0.0625,
            with_neck: bool = False,
            num_points: int = 5) -> dict:
    """Config of an RTMPose for images of 64 x 96 pixels, with the mini head.

    Args:
        width (float): Its last feature has 1024 times as many channels.
        with_neck (bool): Whether a neck with BN comes before the head.
        num_points (int): Number of keypoints.
    """
    channels = [int(c * width) for c in (256, 512, 1024)]
    neck = dict(
        type='CSPNeXtPAFPN',
        in_channels=channels,
        out_channels=None,
        out_indices=(1, 2),
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU'))
    model = Config.fromfile(STUDENT).model.to_dict()
    model.update(
        _scope_='mmpose',
        backbone=dict(
            type='CSPNeXt',
            arch='P5',
            expand_ratio=0.5,
            deepen_factor=0.167,
            widen_factor=width,
            out_indices=(2, 3, 4) if with_neck else (4, ),
            channel_attention=True,
            norm_cfg=dict(type='BN'),
            act_cfg=dict(type='SiLU')),
        neck=neck if with_neck else None,
        test_cfg=dict(flip_test=True))
    model['head'].update(
        in_channels=channels[-1],
        out_channels=num_points,
        input_size=(64, 96),
        in_featuremap_size=(2, 3))
    model['head']['gau_cfg'].update(hidden_dims=16, s=8)
    model['head']['decoder'].update(input_size=(64, 96), sigma=(2.0, 2.5))
    return model


def first_stage(student: dict,
                teacher: dict,
                feature: str = 'backbone[-1]') -> dict:
    """Config of a student that learns features and logits."""
    return dict(
        type='mmcompress.Distill',
        student=student,
        teacher=dict(cfg=teacher, allow_random=True),
        losses=dict(
            loss_fea=dict(
                type='mmcompress.DWPoseFeatureLoss',
                student=feature,
                teacher=feature,
                student_channels=student['head']['in_channels'],
                teacher_channels=teacher['head']['in_channels'],
                schedule=FADE),
            loss_logit=dict(
                type='mmcompress.DWPoseLogitLoss',
                student='head',
                teacher='head',
                weight=0.1,
                schedule=FADE)))


def second_stage(student: dict,
                 checkpoint: str | None = None,
                 **options) -> dict:
    """Config of a new head that learns from the old one."""
    return dict(
        type='mmcompress.Distill',
        student=student,
        head_only=True,
        teacher=dict(
            cfg=student,
            checkpoint=checkpoint and str(checkpoint),
            allow_random=checkpoint is None),
        losses=dict(
            loss_logit=dict(
                type='mmcompress.DWPoseLogitLoss',
                student='head',
                teacher='head',
                weight=1.0)),
        **options)


def build(cfg: dict, seed: int = 0):
    """Build and initialise a model from its config."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(ConfigDict(cfg))
        model.init_weights()
    return model


@torch.no_grad()
def sharpen(head, seed: int = 0) -> None:
    """Random weights that give logits far apart, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, 0.3, generator=generator)


def batch(model, num: int = 3, seed: int = 0) -> dict:
    """Preprocessed noise with labels; the first keypoint is invisible."""
    torch.manual_seed(seed)
    made = made_up_batch(model, 'mmpose', num=num)
    made['inputs'] = made['inputs'].to(next(model.parameters()).dtype)
    for sample in made['data_samples']:
        sample.gt_instance_labels.keypoint_weights[:, 0] = 0
    return made


@contextmanager
def at_epoch(epoch: int, max_epochs: int):
    """As within a training's epoch, counted from 0."""
    hub = MessageHub.get_instance('test_dwpose')
    hub.update_info('epoch', epoch)
    hub.update_info('max_epochs', max_epochs)
    try:
        yield
    finally:
        MessageHub._instance_dict.pop('test_dwpose')
