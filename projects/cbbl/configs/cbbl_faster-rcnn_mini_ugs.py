# with entropy, and with the loss on perturbed levels of the neck
_base_ = './cbbl_faster-rcnn_mini_um.py'

ugs = dict(gamma=0.1, rho=0.5)

model = dict(
    rpn_head=dict(ugs=ugs),
    roi_head=dict(type='mmcompress.UGSRoIHead', ugs=ugs))
