# LSQ+: activations have an offset, too; for a third of the float model's epochs
_base_ = [
    'mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/runtime.py',
    '../_base_/quantization.py'
]

# top-1 69.90
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='LSQ', bits=4),
            activation=dict(type='LSQ', bits=4, offset='beta'))
    ])

load_from = float_ckpt

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=30, convert_to_iter_based=True)
]
