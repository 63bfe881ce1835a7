# the student of G2SD's second stage, with the encoder of its first
_base_ = '../g2sd/g2sd_vit_mini_student.py'

model = dict(
    backbone=dict(
        type='mmcompress.DistTokenVisionTransformer',
        init_cfg=dict(
            type='Pretrained', checkpoint='cache://g2sd_generic_vit_mini')),
    head=dict(
        type='mmcompress.DistTokenClsHead',
        loss=dict(mode='original', loss_weight=0.5)))

default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook', new=['^dist_token$']))
