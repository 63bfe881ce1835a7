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
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='backbone.layer5',
            teacher='backbone.layer4',
            student_channels=1024,
            teacher_channels=2048,
            alpha_mgd=7e-5,
            lambda_mgd=0.15,
            mask_type='channel')))

optim_wrapper = dict(clip_grad=dict(max_norm=5.0))
