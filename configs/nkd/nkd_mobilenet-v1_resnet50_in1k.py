_base_ = '../_base_/mobilenet-v1_8xb32_in1k.py'

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
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            gamma=1.5)))

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
