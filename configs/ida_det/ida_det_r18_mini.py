_base_ = './ida_det_student_mini.py'

taps = dict(neck='neck', rpn='rpn_head')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/ida_det_teacher_mini.py',
        checkpoint='cache://ida_det_teacher_mini'),
    losses=dict(
        loss_ida=dict(
            type='mmcompress.IDaDetLoss',
            student=taps,
            teacher=taps,
            channels=64,
            num_levels=5,
            score_thr=0.85,
            gamma=0.6,
            # ten times the default, for this data alone
            hint_neck_w=5.0)))
