_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/runtime.py']

# top-1 73.62
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='backbone.layer4',
            teacher='backbone.layer4',
            student_channels=512,
            teacher_channels=512,
            alpha_mgd=7e-5,
            lambda_mgd=0.15,
            mask_type='channel')))
