# two epochs from the float model on
_base_ = ['../kd/kd_resnet_mini_teacher.py', '../_base_/quantization.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='LSQ', bits=4),
            activation=dict(type='LSQ', bits=4))
    ])

load_from = 'cache://kd_resnet_mini_teacher'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = dict(end=2)
default_hooks = dict(checkpoint=dict(interval=2), keep=dict(name=None))
