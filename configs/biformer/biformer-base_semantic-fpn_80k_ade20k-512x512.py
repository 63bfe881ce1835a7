_base_ = './biformer-small_semantic-fpn_80k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,
        init_cfg=dict(checkpoint='cache://biformer-base')),
    neck=dict(in_channels=[96, 192, 384, 768]))
