# INT8 for a tenth of the float model's 300 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py',
    '../_base_/quantization.py'
]

# top-1 80.69
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(_base_.int8, attention=dict(type='LSQ', bits=8))])

load_from = float_ckpt

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=1e-5), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=30, convert_to_iter_based=True)
]
