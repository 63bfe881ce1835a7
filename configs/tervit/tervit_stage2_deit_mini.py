# second stage: weights are ternary, and go on from the first stage
_base_ = './ternary_deit_mini.py'

load_from = 'cache://tervit_stage1_deit_mini'

train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = [dict(_base_.param_scheduler[0], end=1)]

default_hooks = dict(checkpoint=dict(interval=1))
