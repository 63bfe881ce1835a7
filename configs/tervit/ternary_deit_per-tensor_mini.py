# one threshold and one scale for each layer
_base_ = './ternary_deit_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='TernaryWeight', clip=2.5, per='tensor'))
])
