_base_ = './lsq_resnet50_w4_a4_in1k.py'

model = dict(
    steps=[dict(_base_.model.steps[0], activation=dict(type='LSQ', bits=8))])
