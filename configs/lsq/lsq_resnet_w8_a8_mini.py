_base_ = './lsq_resnet_w4_a4_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='LSQ', bits=8),
        activation=dict(type='LSQ', bits=8))
])

train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = dict(end=1)
default_hooks = dict(checkpoint=dict(interval=1))
