# a small vision transformer alone: 64 patches, 4 pixels apart; with patches
# that don't overlap it learns little from 5,000 images
_base_ = '../_base_/mini_classification.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch=dict(
            embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64),
        img_size=32,
        patch_size=4,
        patch_cfg=dict(kernel_size=8, padding=2)),
    neck=None,
    head=dict(
        _delete_=True,
        type='VisionTransformerClsHead',
        num_classes=10,
        in_channels=32,
        # from zeros, the default, it takes most of the training to begin
        init_cfg=dict(type='Xavier', layer='Linear'),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))

train_cfg = dict(max_epochs=9, val_interval=9)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.004, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=150),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=9,
        T_max=9,
        convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=9))
