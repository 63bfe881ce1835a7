_base_ = '../_base_/resnet18_8xb16_cifar100.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='./nkd_teacher_resnet34_cifar100.py',
        checkpoint='cache://nkd_teacher_resnet34_cifar100'),
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=3.0,
            gamma=3.5)))
