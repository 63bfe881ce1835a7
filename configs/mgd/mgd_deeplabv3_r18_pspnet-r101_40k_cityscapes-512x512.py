_base_ = './mgd_student_deeplabv3_r18_40k_cityscapes-512x512.py'

# mIoU 78.34
teacher_ckpt = 'https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r101-d8_512x1024_40k_cityscapes/pspnet_r101-d8_512x1024_40k_cityscapes_20200604_232751-467e7cf4.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmseg::pspnet/pspnet_r101-d8_4xb2-40k_cityscapes-512x1024.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='backbone.layer4',
            teacher='backbone.layer4',
            student_channels=512,
            teacher_channels=2048,
            alpha_mgd=2e-5,
            lambda_mgd=0.75),
        loss_logits=dict(
            type='mmcompress.CWDLoss',
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            tau=4.0,
            loss_weight=3.0)))
