_base_ = [
    'mmpretrain::t2t_vit/t2t-vit-t-14_8xb64_in1k.py', '../_base_/hooks.py'
]

taps = dict(
    low=['backbone.encoder.0', 'backbone.encoder.1'], high='backbone.norm')

# top-1 82.71
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/t2t-vit/t2t-vit-t-24_8xb64_in1k_20211214-b2a68ae3.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::t2t_vit/t2t-vit-t-24_8xb64_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_vitkd=dict(
            type='mmcompress.ViTKDLoss',
            student=taps,
            teacher=taps,
            student_dims=384,
            teacher_dims=512)))

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
