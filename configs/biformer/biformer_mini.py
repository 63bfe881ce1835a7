# a small BiFormer alone: 8 x 8, 4 x 4, 2 x 2 tokens and one, in 2 x 2 regions
_base_ = '../_base_/mini_classification.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmcompress.BiFormer',
        arch=dict(
            depth=(1, 1, 2, 1),
            embed_dim=(32, 64, 96, 128),
            mlp_ratios=(2, 2, 2, 2),
            topks=(1, 2, 4, -2)),
        n_win=2,
        head_dim=16),
    head=dict(
        in_channels=128,
        loss=dict(_delete_=True, type='LabelSmoothLoss',
                  label_smooth_val=0.1)))

train_cfg = dict(max_epochs=8, val_interval=8)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.003, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=150),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=8,
        T_max=8,
        convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=8))
