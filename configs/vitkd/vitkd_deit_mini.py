_base_ = './vitkd_deit_mini_student.py'

taps = dict(
    low=['backbone.layers.0', 'backbone.layers.1'], high='backbone.ln1')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/vitkd_deit_mini_teacher.py',
        checkpoint='cache://vitkd_deit_mini_teacher'),
    losses=dict(
        loss_vitkd=dict(
            type='mmcompress.ViTKDLoss',
            student=taps,
            teacher=taps,
            student_dims=32,
            teacher_dims=64,
            # 20 times those for ImageNet; tuned on the mini data
            # for this data alone; 3e-5 is the default
            alpha_vitkd=6e-4,
            beta_vitkd=6e-5)))
