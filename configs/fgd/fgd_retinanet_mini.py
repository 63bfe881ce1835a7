_base_ = './fgd_retinanet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/fgd_retinanet_mini_teacher.py',
        checkpoint='cache://fgd_retinanet_mini_teacher'),
    init_student=['neck.fpn_convs', 'bbox_head'],
    losses=dict(
        loss_fgd=dict(
            type='mmcompress.FGDLoss',
            student='neck',
            teacher='neck',
            num_levels=3,
            student_channels=64,
            teacher_channels=64,
            temp=0.5,
            # ten times the defaults, for this data alone: the maps have 50
            # times fewer cells than COCO's; elsewhere leave them out
            alpha_fgd=1e-2,
            beta_fgd=5e-3,
            gamma_fgd=5e-3,
            lambda_fgd=5e-5)))
