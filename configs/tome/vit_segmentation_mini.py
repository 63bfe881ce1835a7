# a plain vision transformer that segments: 12 x 16 patches, no class token
_base_ = ['../_base_/mini_segmentation.py', '../_base_/runtime.py']

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(96, 128)),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch=dict(
            embed_dims=64, num_layers=5, num_heads=4,
            feedforward_channels=128),
        img_size=(96, 128),
        patch_size=8,
        patch_cfg=dict(kernel_size=16, padding=4),
        with_cls_token=False,
        out_type='featmap'),
    decode_head=dict(
        type='FCNHead',
        in_channels=64,
        channels=64,
        num_convs=1,
        kernel_size=3,
        concat_input=False,
        num_classes=11,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        # most pixels are background
        loss_decode=dict(
            type='CrossEntropyLoss', class_weight=[0.2] + [1.0] * 10)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))

train_cfg = dict(max_epochs=16, val_interval=16)
optim_wrapper = dict(optimizer=dict(lr=0.002, weight_decay=0.05))
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(start_factor=0.01, end=250)
param_scheduler[1].update(end=16, T_max=16)

# others find it as `checkpoint='cache://vit_segmentation_mini'`
default_hooks = dict(
    checkpoint=dict(interval=16),
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='vit_segmentation_mini'))
