# INT8 for a tenth of the float model's 150 epochs, from the rate at which
# its schedule ends
_base_ = [
    'mmdet::detr/detr_r50_8xb2-150e_coco.py', '../_base_/runtime.py',
    '../_base_/quantization.py'
]

# box AP 39.9
float_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/detr/detr_r50_8xb2-150e_coco/detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(_base_.int8, attention=dict(type='LSQ', bits=8))])

load_from = float_ckpt

train_cfg = dict(max_epochs=15)
optim_wrapper = dict(optimizer=dict(lr=1e-5), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=15, convert_to_iter_based=True)
]
