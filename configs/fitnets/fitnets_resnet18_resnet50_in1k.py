_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/runtime.py']

# top-1 76.55
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_hint3=dict(
            type='mmcompress.FeatureL2Loss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            student_channels=256,
            teacher_channels=1024,
            loss_weight=10.0),
        loss_hint4=dict(
            type='mmcompress.FeatureL2Loss',
            student='backbone.layer4',
            teacher='backbone.layer4',
            student_channels=512,
            teacher_channels=2048,
            loss_weight=10.0),
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=6.0,
            reduction='mean',
            loss_weight=10.0)))
