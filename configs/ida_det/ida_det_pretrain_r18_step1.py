# ImageNet pretraining of the 1-bit backbone, ReActNet's recipe. First step:
# 1-bit activations, real weights
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/default_runtime.py', '../_base_/runtime.py'
]

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
            conv_cfg=dict(type='mmcompress.IDaDetConv2d',
                          binary_weight=False)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        # learns from the teacher only
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
# 512 images in all: 8 devices with 64
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(by_epoch=True, max_epochs=128, val_interval=1)
val_cfg = dict()
test_cfg = dict()
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=128)
optim_wrapper = dict(
    optimizer=dict(type='Adam', lr=0.0025, weight_decay=1e-5),
    paramwise_cfg=dict(
        norm_decay_mult=0,
        custom_keys={
            'prelu': dict(decay_mult=0),
            'head.fc': dict(decay_mult=0)
        }))
auto_scale_lr = dict(base_batch_size=512)
