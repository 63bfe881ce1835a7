_base_ = './cwd_pspnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/cwd_pspnet_mini_teacher.py',
        checkpoint='cache://cwd_pspnet_mini_teacher'),
    losses=dict(
        loss_cwd=dict(
            type='mmcompress.CWDLoss',
            student='decode_head.conv_seg',
            teacher='decode_head.conv_seg',
            tau=4.0,
            loss_weight=3.0)))
