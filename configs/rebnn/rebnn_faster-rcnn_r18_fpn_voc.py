# the 1-bit detector of IDa-Det with ReBNN's convolutions
_base_ = '../ida_det/ida_det_student_r18.py'

conv_cfg = dict(type='mmcompress.ReBNNConv2d')

model = dict(
    backbone=dict(block='react', conv_cfg=conv_cfg),
    neck=dict(conv_cfg=conv_cfg),
    rpn_head=dict(conv_cfg=conv_cfg))
