_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', '../_base_/runtime.py',
    '../_base_/biformer-small_dense.py'
]

model = dict(
    # 16 x 16 regions for 800 x 1333 pixels
    backbone=dict(
        _base_.biformer,
        _delete_=True,
        n_win=16,
        norm_eval=True,
        drop_path_rate=0.2),
    neck=dict(in_channels=[64, 128, 256, 512]))

optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(
        _delete_=True,
        type='AdamW',
        lr=0.0001,
        betas=(0.9, 0.999),
        weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0))

default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook', new=['^extra_norms']))
