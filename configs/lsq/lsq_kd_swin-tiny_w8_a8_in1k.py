_base_ = './lsq_swin-tiny_w8_a8_in1k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=1.0,
            loss_weight=1.0)))
