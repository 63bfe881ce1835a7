# two students that learn from each other; there is no first stage
_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.MutualDistill',
    student=_base_.model,
    peer=_base_.model,
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss', student='head.fc', teacher='head.fc'),
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            student_channels=32,
            teacher_channels=32,
            factor_channels=32,
            inh_weight=1.0,
            exp_weight=1.0)))
