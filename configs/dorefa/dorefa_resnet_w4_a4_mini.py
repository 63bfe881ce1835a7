# as long as LSQ, which it is compared with
_base_ = '../lsq/lsq_resnet_w4_a4_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='DoReFaWeight', bits=4),
        activation=dict(type='DoReFaActivation', bits=4))
])
