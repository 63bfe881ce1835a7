# the model before merging teaches; its layers have all tokens, and so it
# looks for those that merge
_base_ = './tome_vit_r12_mini.py'

taps = dict(
    low=['backbone.layers.0', 'backbone.layers.1'], high='backbone.ln1')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/vit_mini.py', checkpoint='cache://vit_mini'),
    losses=dict(
        loss_vitkd=dict(
            type='mmcompress.ViTKDLoss',
            student=taps,
            teacher=taps,
            student_dims=64,
            teacher_dims=64),
        loss_kd=dict(type='mmcompress.KDLoss', student='head',
                     teacher='head')))
