# first stage: weights of 8 bits
_base_ = './ternary_deit_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0], weight=_base_.model.steps[0].first_last.weight)
])

train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [dict(_base_.param_scheduler[0], end=1)]

# the second stage finds it as `cache://tervit_stage1_deit_mini`
default_hooks = dict(
    checkpoint=dict(interval=1), keep=dict(name='tervit_stage1_deit_mini'))
