# the second version of the paper: with the loss on perturbed levels
_base_ = './cbbl_faster-rcnn_r50_fpn_1x_coco.py'

ugs = dict(gamma=0.1, rho=0.5)

model = dict(
    rpn_head=dict(ugs=ugs),
    roi_head=dict(type='mmcompress.UGSRoIHead', ugs=ugs))
