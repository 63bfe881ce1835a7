# DETR-R50 of 39.9 AP, which Q-DETR starts from
_base_ = [
    'mmdet::detr/detr_r50_8xb2-150e_coco.py', '../../_base_/runtime.py',
    './quantize.py'
]

float_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/detr/detr_r50_8xb2-150e_coco/detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth'  # noqa: E501

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.custom_keys))
