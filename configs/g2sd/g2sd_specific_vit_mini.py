# the second stage, after g2sd_generic_vit_mini.py
_base_ = '../_base_/mini_vit_dist-token.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/g2sd_vit_mini_teacher.py',
        checkpoint='cache://g2sd_vit_mini_teacher'),
    losses=dict(
        loss_hard=dict(
            type='mmcompress.HardKDLoss',
            student='head.layers.head_dist',
            teacher='head',
            loss_weight=0.5)))
