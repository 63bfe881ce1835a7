# its distillation alone: nothing is quantized
_base_ = ['mmdet::detr/detr_r18_8xb2-500e_coco.py', '../_base_/runtime.py']

# AP 39.9
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/detr/detr_r50_8xb2-150e_coco/detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth'  # noqa: E501
taps = dict(
    features='decoder.layers.5.cross_attn.attn[0]', boxes='bbox_head[1]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::detr/detr_r50_8xb2-150e_coco.py', checkpoint=teacher_ckpt),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))
