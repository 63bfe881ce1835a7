_base_ = './kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/kd_resnet_mini_teacher.py',
        checkpoint='cache://kd_resnet_mini_teacher'),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=4.0,
            loss_weight=1.0)))
