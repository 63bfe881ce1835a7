# for a third of the float model's epochs; its first and last layers have 8 bits
_base_ = '../lsq/lsqplus_resnet18_w4_a4_in1k.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='DoReFaWeight', bits=4),
        activation=dict(type='DoReFaActivation', bits=4))
])
