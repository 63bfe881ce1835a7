# for a third of the float model's epochs, at ten times the rate of 8 bits; its
# norms are trained, too
_base_ = './lsq_retinanet_r50_w8_a8_fpn_coco.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='LSQ', bits=4),
        activation=dict(type='LSQ', bits=4),
        norms='trained')
])

train_cfg = dict(max_epochs=4)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [dict(_base_.param_scheduler[0], end=4)]
