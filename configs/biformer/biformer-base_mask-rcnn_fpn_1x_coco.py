_base_ = './biformer-small_mask-rcnn_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='cache://biformer-base')),
    neck=dict(in_channels=[96, 192, 384, 768]))
