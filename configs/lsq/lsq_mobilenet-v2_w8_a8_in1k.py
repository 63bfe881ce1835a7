# INT8 for a tenth of the float model's 300 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/runtime.py', '../_base_/quantization.py'
]

# top-1 71.86
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[_base_.int8])

load_from = float_ckpt

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=30, convert_to_iter_based=True)
]
