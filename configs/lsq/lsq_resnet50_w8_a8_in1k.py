# INT8 for a tenth of the float model's 100 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmpretrain::resnet/resnet50_8xb32_in1k.py', '../_base_/runtime.py',
    '../_base_/quantization.py'
]

# top-1 76.55
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[_base_.int8])

load_from = float_ckpt

train_cfg = dict(max_epochs=10)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=10, convert_to_iter_based=True)
]
