_base_ = './lsq_faster-rcnn_r50_w8_a8_fpn_coco.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_fgd=dict(
            type='mmcompress.FGDLoss', student='neck[0:4]', teacher='neck[0:4]',
            student_channels=256, teacher_channels=256, num_levels=4,
            temp=0.5, alpha_fgd=5e-5, beta_fgd=2.5e-5,
            gamma_fgd=5e-5, lambda_fgd=5e-7)))  # yapf: disable
