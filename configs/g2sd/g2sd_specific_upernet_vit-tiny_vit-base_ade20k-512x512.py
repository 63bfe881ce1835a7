_base_ = '../_base_/upernet_vit-tiny_160k_ade20k-512x512.py'

# mIoU 48.13
teacher_ckpt = 'https://download.openmmlab.com/mmsegmentation/v0.5/mae/upernet_mae-base_fp16_8x2_512x512_160k_ade20k/upernet_mae-base_fp16_8x2_512x512_160k_ade20k_20220426_174752-f92a2975.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_cwd=dict(
            type='mmcompress.CWDLoss',
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            tau=1.0,
            loss_weight=10.0)))
