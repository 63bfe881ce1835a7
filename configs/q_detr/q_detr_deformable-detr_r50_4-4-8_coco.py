_base_ = [
    'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
    '../_base_/runtime.py', './_base_/quantize.py'
]

# AP 44.3
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/deformable_detr/deformable-detr_r50_16xb2-50e_coco/deformable-detr_r50_16xb2-50e_coco_20221029_210934-6bc7d21b.pth'  # noqa: E501
taps = dict(
    features='decoder.layers.5.cross_attn.output_proj', boxes='bbox_head[1]')

quantize = _base_.quantize
# no queries are multiplied with keys in the cross-attention
norm = quantize.overrides.pop('decoder')
quantize.overrides['decoder.layers.*.self_attn.attn'] = norm
# makes positions of queries
quantize.overrides['reference_points_fc'] = _base_.eight_bits

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress', model=_base_.model, steps=[quantize]),
    teacher=dict(
        cfg='mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))

load_from = teacher_ckpt
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.custom_keys))
