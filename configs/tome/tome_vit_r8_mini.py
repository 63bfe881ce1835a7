# 65 tokens become 25; load_from is what it merges without training
_base_ = './vit_mini.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=8)])

load_from = 'cache://vit_mini'

# a few epochs to get used to it
train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', end=3, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
