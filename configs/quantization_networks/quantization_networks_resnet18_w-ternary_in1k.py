# weights -1, 0 and 1; the first and the last layer stay float
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='QNWeight', levels=[-1, 0, 1]),
            first_last=dict(weight=None, activation=None))
    ])

# top-1 69.90
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth'  # noqa: E501

train_cfg = dict(max_epochs=35)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    clip_grad=dict(max_norm=5),
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
param_scheduler = dict(milestones=[25, 30])

# 700 in the last epoch
default_hooks = dict(
    temperature=dict(type='mmcompress.TemperatureHook', step_w=20))
