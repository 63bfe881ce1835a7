# half of the units' parameters: two epochs at a constant rate, ten rankings
_base_ = '../tome/vit_mini.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MaskUnits')])
load_from = 'cache://vit_mini'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = []
default_hooks = dict(
    upop=dict(type='mmcompress.UPopHook', p=0.5, interval=16),
    checkpoint=dict(interval=2),
    keep=dict(name=None))
