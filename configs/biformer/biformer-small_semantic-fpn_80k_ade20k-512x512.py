_base_ = [
    'mmseg::_base_/models/fpn_r50.py', 'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/default_runtime.py',
    'mmseg::_base_/schedules/schedule_80k.py', '../_base_/runtime.py',
    '../_base_/biformer-small_dense.py'
]

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(512, 512)),
    # 8 x 8 regions for 512 pixels
    backbone=dict(
        _base_.biformer,
        _delete_=True,
        n_win=8,
        norm_cfg=dict(type='SyncBN'),
        drop_path_rate=0.15),
    neck=dict(in_channels=[64, 128, 256, 512]),
    decode_head=dict(num_classes=150))

# 8 devices with 4 images
train_dataloader = dict(batch_size=4)

optim_wrapper = dict(
    _delete_=True,
    type='AmpOptimWrapper',
    loss_scale=512.,
    optimizer=dict(type='AdamW', lr=2e-4, weight_decay=1e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=1e-8,
        begin=1000,
        end=80000,
        by_epoch=False)
]

default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook', new=['^extra_norms']))
