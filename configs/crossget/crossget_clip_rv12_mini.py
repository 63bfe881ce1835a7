# 65 image tokens become 17; load_from is what it merges without training
_base_ = './crossget_clip_mini_dense.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.CrossGET', vision=12)])

load_from = 'cache://crossget_clip_mini_dense'

# 93 steps to get used to it
train_cfg = dict(max_epochs=1, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=3e-4))
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=1,
        T_max=1,
        convert_to_iter_based=True)
]
default_hooks = dict(
    checkpoint=dict(interval=1), cache_teacher=dict(name=None))
