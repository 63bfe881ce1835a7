_base_ = './lsq_rtmpose-s_w8_a8_coco-256x192.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg=
        'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-s_8xb256-420e_coco-256x192.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_logit=dict(
            type='mmcompress.DWPoseLogitLoss',
            student='head',
            teacher='head',
            weight=0.1)))
