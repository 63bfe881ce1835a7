_base_ = './lsq_resnet50_w8_a8_in1k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=1.0,
            loss_weight=3.0)))
