_base_ = './lsq_retinanet_r50_w8_a8_fpn_coco.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        loss_fgd=dict(
            type='mmcompress.FGDLoss', student='neck', teacher='neck',
            student_channels=256, teacher_channels=256, num_levels=5,
            temp=0.5, alpha_fgd=1e-3, beta_fgd=5e-4,
            gamma_fgd=5e-4, lambda_fgd=5e-6)))  # yapf: disable
