_base_ = '../fgd/fgd_retinanet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../fgd/fgd_retinanet_mini_teacher.py',
        checkpoint='cache://fgd_retinanet_mini_teacher'),
    losses=dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss',
            student='neck',
            teacher='neck',
            # for this data alone; 1.0 is the default
            loss_weight=10.0)))
