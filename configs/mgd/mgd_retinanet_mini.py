_base_ = '../fgd/fgd_retinanet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../fgd/fgd_retinanet_mini_teacher.py',
        checkpoint='cache://fgd_retinanet_mini_teacher'),
    init_student=['neck.fpn_convs', 'bbox_head'],
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss',
            student='neck',
            teacher='neck',
            student_channels=64,
            teacher_channels=64,
            num_levels=3,
            # 2e-5 for COCO, where the finest map has 190 times the elements;
            # tuned on the mini data
            alpha_mgd=1.2e-3,
            lambda_mgd=0.65)))
