# maps by LSF, without a teacher
_base_ = '../vitkd/vitkd_deit_mini_teacher.py'

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
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.))
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    by_epoch=True,
    begin=0,
    end=3,
    T_max=3,
    convert_to_iter_based=True)

default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
