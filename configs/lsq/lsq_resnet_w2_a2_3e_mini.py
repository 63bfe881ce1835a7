_base_ = './lsq_resnet_w4_a4_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='LSQ', bits=2),
        activation=dict(type='LSQ', bits=2))
])

train_cfg = dict(max_epochs=3, val_interval=3)
param_scheduler = dict(end=3)
default_hooks = dict(checkpoint=dict(interval=3))
