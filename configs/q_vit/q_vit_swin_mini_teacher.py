# a small Swin alone: two blocks on 16 x 16 patches, two on 8 x 8, in windows
# of 4 x 4, which the second block of each stage shifts
_base_ = '../_base_/mini_classification.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch=dict(embed_dims=32, depths=[2, 2], num_heads=[2, 4]),
        img_size=32,
        patch_size=2,
        # as wide as those of the mini DeiT; of 4 x 4 pixels it learns late
        patch_cfg=dict(kernel_size=8, padding=3),
        window_size=4,
        out_indices=(1, ),
        drop_path_rate=0.0,
        stage_cfgs=dict(block_cfgs=dict(ffn_ratio=2))),
    head=dict(
        # from almost zeros, the default, it learns nothing for epochs
        init_cfg=dict(type='Xavier', layer='Linear'),
        loss=dict(_delete_=True, type='LabelSmoothLoss',
                  label_smooth_val=0.1)))

train_cfg = dict(max_epochs=13, val_interval=13)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.003, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=150),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=13,
        T_max=13,
        convert_to_iter_based=True)
]

# students find it as `checkpoint='cache://q_vit_swin_mini_teacher'`
default_hooks = dict(
    checkpoint=dict(interval=13),
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='q_vit_swin_mini_teacher'))
