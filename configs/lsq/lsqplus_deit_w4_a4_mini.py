# an offset for activations alone: of GELU, and of what norms return
_base_ = './lsq_deit_w4_a4_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        activation=dict(type='LSQ', bits=4, offset='beta'))
])
