# a small PSPNet alone; tests what cwd_pspnet_mini.py trains
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
        type='ResNetV1c',
        depth=18,
        base_channels=8,
        stem_channels=8,
        out_indices=(2, 3),
        # the maps are an eighth of the image
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4)),
    decode_head=dict(
        type='PSPHead',
        in_channels=64,
        in_index=1,
        channels=32,
        pool_scales=(1, 2, 3, 6),
        num_classes=11,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        # most pixels are background; without weights it is all that a small
        # net predicts for half of the training
        loss_decode=dict(
            type='CrossEntropyLoss', class_weight=[0.2] + [1.0] * 10)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
