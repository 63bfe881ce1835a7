# a small Deformable DETR alone: single-stage, since the position encodings of
# mmdet's two-stage one want 256 channels
_base_ = ['../_base_/mini_detection.py', '../_base_/runtime.py']

model = dict(
    type='DeformableDETR',
    num_queries=40,
    num_feature_levels=3,
    with_box_refine=True,
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    # that of the mini RetinaNet's teacher
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        out_indices=(1, 2, 3),
        # trained from scratch
        frozen_stages=-1,
        norm_eval=False),
    neck=dict(
        type='ChannelMapper',
        in_channels=[64, 128, 256],
        kernel_size=1,
        out_channels=64,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=8),
        num_outs=3),
    encoder=dict(
        num_layers=1,
        layer_cfg=dict(
            self_attn_cfg=dict(
                embed_dims=64,
                num_heads=4,
                num_levels=3,
                dropout=0.0,
                batch_first=True),
            ffn_cfg=dict(embed_dims=64, feedforward_channels=128))),
    decoder=dict(
        num_layers=3,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=64, num_heads=4, batch_first=True),
            cross_attn_cfg=dict(
                embed_dims=64,
                num_heads=4,
                num_levels=3,
                dropout=0.0,
                batch_first=True),
            ffn_cfg=dict(embed_dims=64, feedforward_channels=128)),
        post_norm_cfg=None),
    positional_encoding=dict(num_feats=32, normalize=True, offset=-0.5),
    bbox_head=dict(
        type='DeformableDETRHead',
        num_classes=10,
        embed_dims=64,
        sync_cls_avg_factor=True,
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0)
            ])),
    test_cfg=dict(max_per_img=40))

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys=dict(
            sampling_offsets=dict(lr_mult=0.1),
            reference_points=dict(lr_mult=0.1))))

# students find it as
# `checkpoint='cache://q_detr_deformable_detr_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='q_detr_deformable_detr_mini_teacher'))
