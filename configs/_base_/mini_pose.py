# Articulated figures on photos, with the 133 keypoints of COCO-WholeBody:
# 1,000 images to train on, 200 to validate, 128 x 160 pixels, rendered when
# they are first asked for.
_base_ = ['mmpose::_base_/default_runtime.py', './hooks.py']

# a quarter of RTMPose's input, and labels as blurred as on its
codec = dict(
    type='SimCCLabel',
    input_size=(96, 128),
    sigma=(2.45, 2.83),
    simcc_split_ratio=2.0,
    normalize=False,
    use_dark=False)

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.Rendered',
        task='pose',
        dataset=dict(
            type='CocoWholeBodyDataset',
            data_mode='topdown',
            ann_file='annotations/train.json',
            data_prefix=dict(img='images/train/')),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='GetBBoxCenterScale'),
            dict(type='RandomFlip', direction='horizontal'),
            dict(
                type='RandomBBoxTransform',
                shift_factor=0.05,
                scale_factor=(0.9, 1.1),
                rotate_factor=20),
            dict(type='TopdownAffine', input_size=codec['input_size']),
            dict(type='GenerateTarget', encoder=codec),
            dict(type='PackPoseInputs')
        ]))
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='mmcompress.Rendered',
        task='pose',
        dataset=dict(
            type='CocoWholeBodyDataset',
            data_mode='topdown',
            ann_file='annotations/val.json',
            data_prefix=dict(img='images/val/'),
            test_mode=True),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='GetBBoxCenterScale'),
            dict(type='TopdownAffine', input_size=codec['input_size']),
            dict(type='PackPoseInputs')
        ]))
test_dataloader = val_dataloader
# they take the ground truth from the samples; on figures this small, COCO's
# measure allows a face errors of about a pixel, PCK all keypoints 5 % of a box
val_evaluator = [
    dict(type='CocoWholeBodyMetric'),
    dict(type='PCKAccuracy', thr=0.05)
]
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=8, val_interval=8)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.004, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
    clip_grad=dict(max_norm=1.0, norm_type=2))
# cosine from the first step on, after a short warm-up
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=8,
        T_max=8,
        convert_to_iter_based=True)
]

default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=8, max_keep_ckpts=1))
custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
randomness = dict(seed=0)
