# the small BiFormer as a student of the small ResNet of KD's page
_base_ = './biformer_mini.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../kd/kd_resnet_mini_teacher.py',
        checkpoint='cache://kd_resnet_mini_teacher'),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=4.0,
            loss_weight=1.0)))
