# what two stages are compared with: ternary from the first step on, in as
# many epochs
_base_ = ['../vitkd/vitkd_deit_mini_teacher.py', '../_base_/quantization.py']

activation = dict(type='Dynamic', bits=8)

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='TernaryWeight', clip=2.5),
            activation=activation,
            first_last=dict(
                weight=dict(type='Dynamic', bits=8, clip=2.5),
                activation=activation))
    ])

load_from = 'cache://vitkd_deit_mini_teacher'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=2, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=2), keep=dict(name=None))
