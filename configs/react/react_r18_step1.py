# first step: 1-bit activations, real weights; learns from the teacher only
_base_ = '../_base_/imagenet_1bit.py'

# top-1 73.62
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'  # noqa: E501

model = dict(
    type='mmcompress.Distill',
    student=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='mmcompress.BiResNet',
            depth=18,
            out_indices=(3, ),
            norm_eval=False,
            block='react',
            conv_cfg=dict(type='mmcompress.ReActConv2d', binary_weight=False)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(
            type='mmpretrain.LinearClsHead',
            num_classes=1000,
            in_channels=512,
            loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=0.0))),
    teacher=dict(
        cfg='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss', student='head.fc', teacher='head.fc')))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='Lighting',
        # of BGR images in [0, 1]; alphastd is 0.1 * 255
        eigval=[0.2175, 0.0188, 0.0045],
        eigvec=[[-0.5836, -0.6948, 0.4203], [-0.5808, -0.0045, -0.8140],
                [-0.5675, 0.7192, 0.4009]],
        alphastd=25.5,
        to_rgb=False),
    dict(type='PackInputs')
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=128)
param_scheduler = dict(end=128)
optim_wrapper = dict(
    optimizer=dict(lr=0.0025, weight_decay=1e-5),
    # on convolutions and shifts only
    paramwise_cfg=dict(
        norm_decay_mult=0,
        custom_keys={
            'prelu': dict(decay_mult=0),
            'head.fc': dict(decay_mult=0)
        }))
