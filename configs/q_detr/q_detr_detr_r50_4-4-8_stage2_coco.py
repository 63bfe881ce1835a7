# second stage: all is quantized, and learns from the float model
_base_ = './_base_/detr_r50.py'

taps = dict(
    features='decoder.layers.5.cross_attn.attn[0]', boxes='bbox_head[1]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model,
        steps=[_base_.quantize]),
    # the paper's, of a ResNet-101, is not published for mmdet
    teacher=dict(
        cfg='mmdet::detr/detr_r50_8xb2-150e_coco.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))

load_from = 'work_dirs/q_detr_detr_r50_4-4-8_stage1_coco/epoch_150.pth'
