# with the layers of XNOR-Net
_base_ = './ida_det_r18.py'

conv_cfg = dict(type='mmcompress.XNORConv2d')

model = dict(
    student=dict(
        backbone=dict(
            block='xnor',
            conv_cfg=conv_cfg,
            norm_cfg=dict(type='BN', eps=1e-4)),
        neck=dict(conv_cfg=conv_cfg),
        rpn_head=dict(conv_cfg=conv_cfg)))
