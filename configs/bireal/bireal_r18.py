_base_ = '../_base_/imagenet_1bit.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmcompress.BiResNet',
        depth=18,
        out_indices=(3, ),
        norm_eval=False,
        block='bireal'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)))
