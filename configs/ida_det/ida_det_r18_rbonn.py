# with the layers of RBONN
_base_ = './ida_det_r18.py'

conv_cfg = dict(type='mmcompress.RBONNConv2d')

model = dict(
    student=dict(
        backbone=dict(block='react', conv_cfg=conv_cfg),
        neck=dict(conv_cfg=conv_cfg),
        rpn_head=dict(conv_cfg=conv_cfg)))

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'conv.u': dict(lr_mult=0.1)}))
