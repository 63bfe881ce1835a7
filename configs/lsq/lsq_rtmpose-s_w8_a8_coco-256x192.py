# INT8 for a tenth of the float model's 420 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py',
    '../_base_/hooks.py', '../_base_/quantization.py'
]

# AP 71.6
float_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-s_simcc-coco_pt-aic-coco_420e-256x192-8edcf0d7_20230127.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[_base_.int8])

load_from = float_ckpt

train_cfg = dict(max_epochs=42)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=42, convert_to_iter_based=True)
]

# an average of the weights, and the last epochs' images from the first on
ema, switch = _base_.custom_hooks
custom_hooks = [ema, dict(switch, switch_epoch=0)] + _base_.mmcompress_hooks
