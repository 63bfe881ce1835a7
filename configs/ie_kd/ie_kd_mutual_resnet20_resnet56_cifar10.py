# mutual learning; its usual schedule
_base_ = '../_base_/resnet20_1xb128_cifar10.py'

model = dict(
    _delete_=True,
    type='mmcompress.MutualDistill',
    student=_base_.model,
    peer='{{ fileDirname }}/ie_kd_teacher_resnet56_cifar10.py',
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss', student='head.fc', teacher='head.fc'),
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            student_channels=64,
            teacher_channels=64,
            factor_channels=32,
            inh_weight=1.0,
            exp_weight=1.0)))

train_dataloader = dict(batch_size=64)
param_scheduler = dict(milestones=[60, 120, 180])
train_cfg = dict(max_epochs=200)
