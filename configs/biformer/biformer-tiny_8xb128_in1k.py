# ImageNet as the official code trains: 300 epochs, 8 devices with 128 images,
# DeiT's augmentation, each image three times; the others of the family differ
# in arch and drop path
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py',
    'mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py',
    'mmpretrain::_base_/default_runtime.py', '../_base_/runtime.py'
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmcompress.BiFormer', arch='tiny', drop_path_rate=0.1),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=512,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        cal_acc=False),
    train_cfg=dict(augments=[
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0)
    ]))

train_dataloader = dict(
    batch_size=128,
    sampler=dict(_delete_=True, type='RepeatAugSampler', shuffle=True))

optim_wrapper = dict(optimizer=dict(lr=0.001), clip_grad=None)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.001,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5)
]

custom_hooks = _base_.custom_hooks + [dict(type='EMAHook', momentum=4e-5)]
# others find its backbone as `checkpoint='cache://biformer-tiny'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='biformer-tiny',
        part='backbone'))
