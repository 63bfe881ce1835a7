# second stage: weights are ternary, and go on from the first stage
_base_ = './tervit_stage1_swin-small_in1k.py'

model = dict(steps=[
    dict(_base_.model.steps[0], weight=dict(type='TernaryWeight', clip=2.5))
])

load_from = 'work_dirs/tervit_stage1_swin-small_in1k/epoch_75.pth'

train_cfg = dict(max_epochs=225)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=225)
