_base_ = './lsq_deit-small_w8_a8_in1k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::deit/deit-small_4xb256_in1k.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.layers.head',
            teacher='head.layers.head',
            tau=1.0,
            loss_weight=1.0)))
