_base_ = [
    'mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    '../_base_/runtime.py', './_base_/quantize.py'
]

# AP 40.9
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/conditional_detr/conditional-detr_r50_8xb2-50e_coco/conditional-detr_r50_8xb2-50e_coco_20221121_180202-c83a1dc0.pth'  # noqa: E501
taps = dict(
    features='decoder.layers.5.cross_attn.out_proj', boxes='bbox_head[1]')

quantize = _base_.quantize
# networks that make positions of queries
quantize.overrides.update({
    'decoder.ref_point_head': _base_.eight_bits,
    'decoder.query_scale': _base_.eight_bits
})

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress', model=_base_.model, steps=[quantize]),
    teacher=dict(
        cfg='mmdet::conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))

load_from = teacher_ckpt
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.custom_keys))
