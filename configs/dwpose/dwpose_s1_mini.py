_base_ = './dwpose_student_mini.py'

# both losses fade out: 1 in the first epoch, 1 / 8 in the last
fade = dict(
    type='mmcompress.PiecewiseLinear',
    points=[(0, 1.0), (1, 0.0)],
    by_epoch=True)

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/dwpose_teacher_mini.py',
        checkpoint='cache://dwpose_teacher_mini'),
    losses=dict(
        loss_fea=dict(
            type='mmcompress.DWPoseFeatureLoss',
            student='backbone[-1]',
            teacher='backbone[-1]',
            student_channels=32,
            teacher_channels=96,
            # 7e-5 for maps of 1024 x 6 x 8; these have a tenth of the channels
            alpha_fea=7e-4,
            schedule=fade),
        loss_logit=dict(
            type='mmcompress.DWPoseLogitLoss',
            student='head',
            teacher='head',
            weight=0.1,
            schedule=fade)))
