_base_ = '../cwd/cwd_pspnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../cwd/cwd_pspnet_mini_teacher.py',
        checkpoint='cache://cwd_pspnet_mini_teacher'),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='backbone.layer4',
            teacher='backbone.layer4',
            student_channels=64,
            teacher_channels=192,
            # 2e-5 for maps of 2048 x 64 x 64; these are 192 x 12 x 16
            alpha_mgd=2e-4,
            lambda_mgd=0.75),
        loss_logits=dict(
            type='mmcompress.CWDLoss',
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            tau=4.0,
            loss_weight=3.0)))
