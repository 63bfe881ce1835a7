"""Small real mm models for the tests of the distiller."""
from contextlib import contextmanager

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor

import mmcompress.compat  # noqa: F401
from mmcompress.distill import DistillLoss
from mmcompress.registry import MODELS as OUR_MODELS


@OUR_MODELS.register_module()
class TinyLoss(DistillLoss):
    """Squared difference after a trainable 1x1 convolution."""

    def __init__(self, channels: int = 16, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.adapter = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Loss of a level, shapes (N, C, H, W)."""
        return self.weight * (self.adapter(student) - teacher).square().mean()


@OUR_MODELS.register_module()
class TinySelfLoss(DistillLoss):
    """Mean absolute value of what the student gives; no teacher."""

    def forward(self, student: Tensor) -> Tensor:
        """Loss of any tensor."""
        return student.abs().mean()


def retinanet(depth: int = 18, channels: int = 16, num_classes: int = 3):
    """Config of a RetinaNet with 4 base channels and a thin neck."""
    return dict(
        type='mmdet.RetinaNet',
        _scope_='mmdet',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32),
        backbone=dict(
            type='ResNet',
            depth=depth,
            base_channels=4,
            norm_eval=False,
            frozen_stages=-1),
        neck=dict(
            type='FPN',
            in_channels=[4 * 2**i for i in range(4)]
            if depth < 50 else [16 * 2**i for i in range(4)],
            out_channels=channels,
            start_level=1,
            add_extra_convs='on_output',
            num_outs=5),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=num_classes,
            in_channels=channels,
            stacked_convs=1,
            feat_channels=channels,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32, 64, 128]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss')),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0,
                ignore_iof_thr=-1),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1),
        test_cfg=dict(
            nms_pre=100,
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10))


def distill(student=None, teacher=None, losses=None, **kwargs):
    """Config of a student with the neck distilled from a random teacher."""
    if teacher is None:
        teacher = dict(cfg=retinanet(), checkpoint=None, allow_random=True)
    if losses is None:
        losses = dict(
            loss_tiny=dict(
                type='mmcompress.TinyLoss', student='neck', teacher='neck'))
    return dict(
        type='mmcompress.Distill',
        student=student or retinanet(),
        teacher=teacher,
        losses=losses,
        **kwargs)


@contextmanager
def detection_scope():
    """As mmdet's tools: its registries, and bare names looked up there."""
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def build(cfg: dict, seed: int = 0):
    """Build a model from its config."""
    torch.manual_seed(seed)
    with detection_scope():
        return MODELS.build(ConfigDict(cfg))


def batch(model, num_items=(2, 1), size: int = 64, num_classes: int = 3):
    """Preprocessed inputs with random images and boxes, reproducible."""
    from mmdet.testing import demo_mm_inputs
    data = demo_mm_inputs(
        len(num_items), [(3, size, size)] * len(num_items),
        num_items=list(num_items),
        num_classes=num_classes)
    return model.data_preprocessor(data, True)
