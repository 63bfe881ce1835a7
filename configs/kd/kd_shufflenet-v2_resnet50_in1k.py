_base_ = [
    'mmpretrain::shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py',
    '../_base_/runtime.py'
]

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
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head.fc',
            teacher='head.fc',
            tau=1.0,
            loss_weight=3.0)))
