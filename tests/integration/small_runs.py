"""Configs of short real trainings on a few rendered images."""
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from distill.models import retinanet

ROOT = Path(__file__).resolve().parents[2]

COMMON = """
custom_imports = dict(
    imports=['mmcompress.compat'], allow_failed_imports=False)
custom_hooks = [
    dict(type='mmcompress.InformTeacherHook'),
    dict(type='mmcompress.PlainCheckpointHook'),
    dict(type='mmcompress.ExactResumeHook'),
    dict(type='mmcompress.NonFiniteLossHook'),
    dict(type='mmcompress.CheckDataHook'),
]
default_scope = 'mmdet'
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1),
    checkpoint=dict(type='CheckpointHook', interval=1))
log_processor = dict(window_size=1)
visualizer = dict(
    type='DetLocalVisualizer',
    name='visualizer',
    vis_backends=[dict(type='LocalVisBackend')])
randomness = dict(seed=1)
settings = dict(num_train=8, num_val=4)
train_dataloader = dict(
    batch_size={batch_size},
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle={shuffle}),
    dataset=dict(
        type='mmcompress.Rendered',
        settings=settings,
        dataset=dict(
            type='CocoDataset',
            ann_file='annotations/train.json',
            data_prefix=dict(img='JPEGImages/'),
            filter_cfg=dict(filter_empty_gt=False)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(96, 96), keep_ratio=False),
            {augment}
            dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1),
                 keep_empty=False),
            dict(type='PackDetInputs')]))
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.Rendered',
        settings=settings,
        dataset=dict(
            type='CocoDataset',
            ann_file='annotations/val.json',
            data_prefix=dict(img='JPEGImages/'),
            test_mode=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(96, 96), keep_ratio=False),
            dict(type='PackDetInputs', meta_keys=(
                'img_id', 'img_path', 'ori_shape', 'img_shape',
                'scale_factor', 'instances'))]))
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
train_cfg = dict(
    type='EpochBasedTrainLoop', max_epochs={epochs}, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper', accumulative_counts={accumulative_counts},
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
model = {model}
"""

AUGMENT = """dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'),"""


def write_config(path: Path, model: dict, **options) -> Path:
    """Write a config of a run on 8 images."""
    defaults = dict(
        batch_size=2,
        shuffle=True,
        augment=AUGMENT,
        epochs=1,
        accumulative_counts=1)
    text = COMMON
    for key, value in {**defaults, **options, 'model': model}.items():
        text = text.replace('{' + key + '}', str(value))
    path.write_text(text)
    return path


def faster_rcnn(binary: bool = False) -> dict:
    """A small two-stage detector; its samplers keep everything."""
    sampler = dict(
        type='RandomSampler',
        num=10**6,
        pos_fraction=0.5,
        neg_pos_ub=-1,
        add_gt_as_proposals=False)
    assigner = dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.5,
        neg_iou_thr=0.5,
        min_pos_iou=0.3,
        match_low_quality=True,
        ignore_iof_thr=-1)
    proposal = dict(
        nms_pre=50,
        max_per_img=20,
        nms=dict(type='nms', iou_threshold=0.7),
        min_bbox_size=0)
    rcnn = dict(score_thr=0.05, max_per_img=10,
                nms=dict(type='nms', iou_threshold=0.5))  # yapf: disable
    channels = [8, 16, 32, 64]
    return dict(
        type='mmdet.FasterRCNN',
        _scope_='mmdet',
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            pad_size_divisor=32),
        backbone=dict(
            type='mmcompress.BiResNet' if binary else 'ResNet',
            depth=18,
            base_channels=8,
            norm_eval=True,
            frozen_stages=-1),
        neck=dict(
            type='mmcompress.IDaDetFPN' if binary else 'FPN',
            in_channels=channels,
            out_channels=8,
            num_outs=5),
        rpn_head=dict(
            type='mmcompress.IDaDetRPNHead' if binary else 'RPNHead',
            in_channels=8,
            feat_channels=8,
            anchor_generator=dict(
                type='AnchorGenerator',
                scales=[4],
                ratios=[1.0],
                strides=[4, 8, 16, 32, 64]),
            loss_bbox=dict(type='L1Loss')),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(
                    type='RoIAlign', output_size=3, sampling_ratio=1),
                out_channels=8,
                featmap_strides=[4, 8, 16, 32]),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=8,
                fc_out_channels=16,
                roi_feat_size=3,
                num_classes=10,
                reg_class_agnostic=True,
                loss_bbox=dict(type='L1Loss'))),
        train_cfg=dict(
            rpn=dict(
                assigner=assigner,
                sampler=sampler,
                allowed_border=-1,
                pos_weight=-1),
            rpn_proposal=proposal,
            rcnn=dict(assigner=assigner, sampler=sampler, pos_weight=-1)),
        test_cfg=dict(rpn=proposal, rcnn=rcnn))


def fgd() -> dict:
    """FGD on a small RetinaNet with 10 classes."""
    student = retinanet(num_classes=10)
    student['backbone']['norm_eval'] = True
    # a few steps don't make it confident
    student['test_cfg']['score_thr'] = 0.0
    return dict(
        type='mmcompress.Distill',
        student=student,
        teacher=dict(cfg=student, checkpoint=None, allow_random=True),
        losses=dict(
            loss_fgd=dict(
                type='mmcompress.FGDLoss',
                student='neck',
                teacher='neck',
                student_channels=16,
                teacher_channels=16,
                num_levels=5)))


def ida_det() -> dict:
    """IDa-Det on a small 1-bit Faster R-CNN."""
    taps = dict(neck='neck', rpn='rpn_head')
    return dict(
        type='mmcompress.Distill',
        student=faster_rcnn(binary=True),
        teacher=dict(
            cfg=faster_rcnn(), checkpoint=None, allow_random=True),
        losses=dict(
            loss_ida=dict(
                type='mmcompress.IDaDetLoss',
                student=taps,
                teacher=taps,
                channels=8,
                score_thr=0.4)))  # yapf: disable


def train(config: Path,
          work_dir: Path,
          *arguments: str,
          processes: int = 1) -> str:
    """Run tools/train.py, and return what it printed; raises if it failed."""
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone',
                    f'--nproc_per_node={processes}']  # yapf: disable
    command += [str(ROOT / 'tools' / 'train.py'), str(config),
                '--work-dir', str(work_dir), *arguments]  # yapf: disable
    if processes > 1:
        command += ['--launcher', 'pytorch']
    done = subprocess.run(
        command,
        env=dict(
            os.environ,
            OMP_NUM_THREADS='1',
            PYTHONPATH=f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    if done.returncode:
        raise RuntimeError(done.stdout[-6000:])
    return done.stdout


def losses(work_dir: Path) -> list[dict]:
    """Scalars of the training steps in the newest log of a work dir."""
    newest = max(work_dir.glob('*/vis_data/scalars.json'))
    rows = [json.loads(line) for line in newest.read_text().splitlines()]
    return [row for row in rows if 'loss' in row]


def weights(work_dir: Path, name: str) -> dict[str, torch.Tensor]:
    """State dict of a checkpoint, under torch's restricted loading."""
    return torch.load(work_dir / name, weights_only=True)['state_dict']
