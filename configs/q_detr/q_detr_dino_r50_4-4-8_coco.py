_base_ = [
    'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py', '../_base_/runtime.py',
    './_base_/quantize.py'
]

# AP 49.0
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v3.0/dino/dino-4scale_r50_8xb2-12e_coco/dino-4scale_r50_8xb2-12e_coco_20221202_182705-55b2bba2.pth'  # noqa: E501
taps = dict(
    features='decoder.layers.5.cross_attn.output_proj', boxes='bbox_head[1]')

quantize = _base_.quantize
# no queries are multiplied with keys in the cross-attention
norm = quantize.overrides.pop('decoder')
quantize.overrides['decoder.layers.*.self_attn.attn'] = norm
# makes positions of queries
quantize.overrides['decoder.ref_point_head'] = _base_.eight_bits

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress', model=_base_.model, steps=[quantize]),
    teacher=dict(
        cfg='mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))

load_from = teacher_ckpt
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=_base_.custom_keys))
