# INT8 for a tenth of the float model's iterations
_base_ = [
    'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    '../_base_/runtime.py', '../_base_/quantization.py'
]

# mIoU 37.41
float_ckpt = 'https://download.openmmlab.com/mmsegmentation/v0.5/segformer/segformer_mit-b0_512x512_160k_ade20k/segformer_mit-b0_512x512_160k_ade20k_20210726_101530-8ffa8fda.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(_base_.int8, attention=dict(type='LSQ', bits=8))])

load_from = float_ckpt

train_cfg = dict(max_iters=16000, val_interval=16000)
optim_wrapper = dict(optimizer=dict(lr=6e-6), paramwise_cfg=_base_.no_decay)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, end=16000)]
default_hooks = dict(checkpoint=dict(interval=16000))
