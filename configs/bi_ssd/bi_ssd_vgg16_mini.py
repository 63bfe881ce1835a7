# a small 1-bit SSD for the mini data
_base_ = ['../_base_/mini_detection.py', '../_base_/runtime.py']

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1),
    backbone=dict(
        type='mmcompress.BiSSDVGG',
        depth=16,
        base_channels=16,
        # small at first: with shortcuts, layers add to each other
        init_cfg=dict(type='Constant', layer='BatchNorm2d', val=0.3)),
    neck=dict(
        type='SSDNeck',
        in_channels=(128, 256),
        out_channels=(128, 256, 128),
        level_strides=(2, ),
        level_paddings=(1, )),
    bbox_head=dict(
        type='mmcompress.SSDHead',
        in_channels=(128, 256, 128),
        num_classes=10,
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            strides=[8, 16, 32],
            ratios=[[2], [2], [2]],
            # in pixels
            min_sizes=[20, 32, 48],
            max_sizes=[32, 48, 64]),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.,
            ignore_iof_thr=-1,
            gt_max_assign_all=False),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False),
    test_cfg=dict(
        nms_pre=1000,
        nms=dict(type='nms', iou_threshold=0.45),
        min_bbox_size=0,
        score_thr=0.02,
        max_per_img=50))

train_cfg = dict(max_epochs=6, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=0.004))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=6,
        T_max=6,
        convert_to_iter_based=True)
]
