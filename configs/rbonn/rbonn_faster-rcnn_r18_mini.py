# the 1-bit detector of IDa-Det with RBONN's convolutions
_base_ = '../ida_det/ida_det_student_mini.py'

conv_cfg = dict(type='mmcompress.RBONNConv2d')

model = dict(
    backbone=dict(block='react', conv_cfg=conv_cfg),
    neck=dict(conv_cfg=conv_cfg),
    rpn_head=dict(conv_cfg=conv_cfg))

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'conv.u': dict(lr_mult=0.1)}))
