# two epochs from the float model on
_base_ = ['../fgd/fgd_retinanet_mini_teacher.py', '../_base_/quantization.py']

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

load_from = 'cache://fgd_retinanet_mini_teacher'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=2, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=2), keep=dict(name=None))
