_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../kd/kd_resnet_mini_teacher.py',
        checkpoint='cache://kd_resnet_mini_teacher'),
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            # tuned on the mini data
            gamma=0.75)))
