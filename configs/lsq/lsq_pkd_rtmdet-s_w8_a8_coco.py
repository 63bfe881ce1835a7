_base_ = './lsq_rtmdet-s_w8_a8_coco.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss',
            student='neck',
            teacher='neck',
            loss_weight=1.0)))
