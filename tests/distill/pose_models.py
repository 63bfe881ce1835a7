"""Small real RTMPose models for the tests of DWPose."""
from contextlib import contextmanager

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.distill.made_up_inputs import made_up_batch

FADE = dict(
    type='mmcompress.PiecewiseLinear',
    points=[(0, 1.0), (1, 0.0)],
    by_epoch=True)


def rtmpose(width: float = 0.0625,
            with_neck: bool = False,
            num_points: int = 5) -> dict:
    """Config of an RTMPose for images of 64 x 96 pixels.

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
    return dict(
        type='TopdownPoseEstimator',
        _scope_='mmpose',
        data_preprocessor=dict(
            type='PoseDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True),
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
        head=dict(
            type='RTMCCHead',
            in_channels=channels[-1],
            out_channels=num_points,
            input_size=(64, 96),
            in_featuremap_size=(2, 3),
            final_layer_kernel_size=3,
            gau_cfg=dict(
                hidden_dims=16,
                s=8,
                expansion_factor=2,
                dropout_rate=0.,
                drop_path=0.,
                act_fn='SiLU',
                use_rel_bias=False,
                pos_enc=False),
            loss=dict(
                type='KLDiscretLoss',
                use_target_weight=True,
                beta=10.,
                label_softmax=True),
            decoder=dict(
                type='SimCCLabel',
                input_size=(64, 96),
                sigma=(2.0, 2.5),
                simcc_split_ratio=2.0,
                normalize=False,
                use_dark=False)),
        test_cfg=dict(flip_test=True))


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
