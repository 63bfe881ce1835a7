# INT8 for a tenth of the float model's iterations
_base_ = [
    'mmseg::pspnet/pspnet_r50-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/runtime.py', '../_base_/quantization.py'
]

# mIoU 78.55
float_ckpt = 'https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r50-d8_512x1024_80k_cityscapes/pspnet_r50-d8_512x1024_80k_cityscapes_20200606_112131-2376f12b.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[_base_.int8])

load_from = float_ckpt

train_cfg = dict(max_iters=8000, val_interval=8000)
optim_wrapper = dict(optimizer=dict(lr=1e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=8000)]
default_hooks = dict(checkpoint=dict(interval=8000))
