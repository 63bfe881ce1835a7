# for a third of the float model's epochs, at ten times the rate of 8 bits; its
# norms are trained, too
_base_ = './lsq_resnet50_w8_a8_in1k.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='LSQ', bits=4),
        activation=dict(type='LSQ', bits=4),
        norms='trained')
])

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(_base_.param_scheduler[0], end=30)]
