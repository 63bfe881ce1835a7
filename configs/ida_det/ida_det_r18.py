_base_ = './ida_det_student_r18.py'

taps = dict(neck='neck', rpn='rpn_head')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    # trained first, by its own config
    teacher=dict(
        cfg='{{ fileDirname }}/ida_det_teacher_r101.py',
        checkpoint='work_dirs/ida_det_teacher_r101/epoch_4.pth'),
    losses=dict(
        loss_ida=dict(
            type='mmcompress.IDaDetLoss',
            student=taps,
            teacher=taps,
            score_thr=0.85,
            gamma=0.6,
            hint_neck_w=0.5)))
