# the first of two stages; its encoder goes on in g2sd_specific_vit_mini.py
_base_ = '../_base_/mini_mae_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/g2sd_mae_mini_teacher.py',
        checkpoint='cache://g2sd_mae_mini_teacher',
        mode='loss'),
    shared_draws='backbone.random_masking',
    losses=dict(
        loss_g2sd=dict(
            type='mmcompress.G2SDGenericLoss',
            student=dict(hidden='neck.decoder_blocks.1', mask='backbone[1]'),
            teacher=dict(hidden='neck.decoder_blocks.1', mask='backbone[1]'),
            student_dims=32,
            teacher_dims=64)))

default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='g2sd_generic_vit_mini',
        part='backbone'))
