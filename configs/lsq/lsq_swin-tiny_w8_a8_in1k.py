# INT8 for a tenth of the float model's 300 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    '../_base_/runtime.py', '../_base_/quantization.py'
]

# top-1 81.18
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'  # noqa: E501

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
