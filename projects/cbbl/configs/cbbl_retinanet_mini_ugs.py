# with entropy, and with the loss on perturbed levels of the neck
_base_ = './cbbl_retinanet_mini_um.py'

model = dict(bbox_head=dict(ugs=dict(gamma=0.1, rho=0.5)))
