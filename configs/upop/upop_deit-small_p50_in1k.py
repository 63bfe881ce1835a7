# The official search: 60 epochs at a constant rate. For 4 x 256 images, not
# 8 x 512, so the rate is a quarter and the interval four times theirs.
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=dict(
        _base_.model, backbone=dict(_base_.model.backbone,
                                    drop_path_rate=0.1)),
    steps=[dict(type='mmcompress.MaskUnits')])

# top-1 80.69; the official search starts from DeiT's own, 79.9
load_from = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

train_dataloader = dict(sampler=dict(type='RepeatAugSampler'))
train_cfg = dict(max_epochs=60)
optim_wrapper = dict(optimizer=dict(lr=2e-4), clip_grad=None)
param_scheduler = []
default_hooks = dict(
    upop=dict(type='mmcompress.UPopHook', p=0.5, interval=3200))
