# 192 tokens become 96, from the third layer on
_base_ = './vit_segmentation_mini.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=[0, 0, 32, 32, 32])])

load_from = 'cache://vit_segmentation_mini'

train_cfg = dict(max_epochs=4, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', end=4, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=4), keep=dict(name=None))
