# Handwritten digits on photos: 5,000 images to train on, 2,000 to validate,
# 32 x 32 pixels, rendered when they are first asked for.
_base_ = ['mmpretrain::_base_/default_runtime.py', './runtime.py']

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=10,
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True),
    # three of the four stages, at half of the usual resolution
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        base_channels=16,
        stem_channels=16,
        num_stages=3,
        strides=(2, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss')))

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.Rendered',
        task='classification',
        dataset=dict(type='CustomDataset', data_prefix='train'),
        pipeline=[dict(type='LoadImageFromFile'),
                  dict(type='PackInputs')]))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.Rendered',
        task='classification',
        dataset=dict(type='CustomDataset', data_prefix='val'),
        pipeline=[dict(type='LoadImageFromFile'),
                  dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=6)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.005))
# linear to 0 at every step
param_scheduler = dict(
    type='LinearLR',
    start_factor=1.0,
    end_factor=0.0,
    begin=0,
    end=6,
    convert_to_iter_based=True)

default_hooks = dict(
    logger=dict(interval=78),
    checkpoint=dict(type='CheckpointHook', interval=6, max_keep_ckpts=1))
randomness = dict(seed=0)
