# second stage: weights are ternary, and go on from the first stage
_base_ = './tervit_stage1_swin_mini.py'

model = dict(steps=[
    dict(_base_.model.steps[0], weight=dict(type='TernaryWeight', clip=2.5))
])

load_from = 'cache://tervit_stage1_swin_mini'

default_hooks = dict(keep=dict(name=None))
