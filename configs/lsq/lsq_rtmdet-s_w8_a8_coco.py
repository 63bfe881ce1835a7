# INT8 for a tenth of the float model's 300 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py', '../_base_/hooks.py',
    '../_base_/quantization.py'
]

# box AP 44.6
float_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/rtmdet/rtmdet_s_8xb32-300e_coco/rtmdet_s_8xb32-300e_coco_20220905_161602-387a891e.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[_base_.int8])

load_from = float_ckpt

train_cfg = dict(max_epochs=30)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=30, convert_to_iter_based=True)
]

# an average of the weights, and the last epochs' images from the first on
ema, switch = _base_.custom_hooks
custom_hooks = [ema, dict(switch, switch_epoch=0)] + _base_.mmcompress_hooks
