_base_ = './lsq_retinanet_r50_w4_a4_fpn_coco.py'

model = dict(
    steps=[dict(_base_.model.steps[0], activation=dict(type='LSQ', bits=8))])
