_base_ = './mgd_mask-rcnn_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/mgd_mask-rcnn_mini_teacher.py',
        checkpoint='cache://mgd_mask-rcnn_mini_teacher'),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='neck[0:4]',
            teacher='neck[0:4]',
            student_channels=64,
            teacher_channels=64,
            num_levels=4,
            # 5e-7 for COCO, where the finest map has 40 times the elements
            alpha_mgd=2e-5,
            lambda_mgd=0.45)))
