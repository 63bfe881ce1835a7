_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/runtime.py',
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
    optimizer=dict(
        _delete_=True, type='AdamW', lr=0.0001, weight_decay=0.0001))

default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook', new=['^extra_norms']))
