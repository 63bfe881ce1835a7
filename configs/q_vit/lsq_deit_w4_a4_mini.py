_base_ = './lsq_deit_w2_a2_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='LSQ', bits=4),
        activation=dict(type='LSQ', bits=4),
        attention=dict(type='LSQ', bits=4))
])
