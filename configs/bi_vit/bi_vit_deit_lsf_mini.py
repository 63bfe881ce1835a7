# maps by LSF, without a teacher
_base_ = ['../vitkd/vitkd_deit_mini_teacher.py', '../_base_/quantization.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='SignWeight'),
            activation=dict(type='SignActivation'),
            attention=dict(type='ActBi'),
            softmax=dict(type='LSF'),
            query_norm=dict(type='IRM'),
            key_norm=dict(type='IRM'),
            first_last=dict(weight=None, activation=None))
    ])

load_from = 'cache://vitkd_deit_mini_teacher'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=3, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
