_base_ = './lsq_segformer_mit-b0_w8_a8_ade20k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_cwd=dict(
            type='mmcompress.CWDLoss',
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            tau=1.0,
            loss_weight=5.0)))
