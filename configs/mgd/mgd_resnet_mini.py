_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../kd/kd_resnet_mini_teacher.py',
        checkpoint='cache://kd_resnet_mini_teacher'),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='backbone.layer3',
            teacher='backbone.layer3',
            student_channels=32,
            teacher_channels=128,
            # 7e-5 for maps of 512 x 7 x 7; these are 128 x 4 x 4; tuned on the
            # mini data
            alpha_mgd=3e-4,
            lambda_mgd=0.15,
            mask_type='channel')))
