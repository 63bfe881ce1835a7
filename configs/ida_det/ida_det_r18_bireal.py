# with the layers of Bi-Real Net
_base_ = './ida_det_r18.py'

conv_cfg = dict(type='mmcompress.BiRealConv2d')

model = dict(
    student=dict(
        backbone=dict(block='bireal', conv_cfg=conv_cfg),
        neck=dict(conv_cfg=conv_cfg),
        rpn_head=dict(conv_cfg=conv_cfg)))
