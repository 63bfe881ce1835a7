# first stage: weights of 8 bits
_base_ = ['../q_vit/q_vit_swin_mini_teacher.py', '../_base_/quantization.py']

weight = dict(type='Dynamic', bits=8, clip=2.5)
activation = dict(type='Dynamic', bits=8)

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=weight,
            activation=activation,
            first_last=dict(weight=weight, activation=activation))
    ])

load_from = 'cache://q_vit_swin_mini_teacher'

train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=1, convert_to_iter_based=True)
]

# the second stage finds it as `cache://tervit_stage1_swin_mini`
default_hooks = dict(
    checkpoint=dict(interval=1), keep=dict(name='tervit_stage1_swin_mini'))
