_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

taps = dict(
    low=['backbone.layers.0', 'backbone.layers.1'], high='backbone.ln1')

# top-1 85.7
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit3/deit3-base-p16_in21k-pre_3rdparty_in1k_20221009-87983ca1.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../_base_/deit3-base-p16_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_vitkd=dict(
            type='mmcompress.ViTKDLoss',
            student=taps,
            teacher=taps,
            student_dims=384,
            teacher_dims=768)))
