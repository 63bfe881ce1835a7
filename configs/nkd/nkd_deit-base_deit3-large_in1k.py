_base_ = ['mmpretrain::deit/deit-base_16xb64_in1k.py', '../_base_/hooks.py']

# top-1 86.97
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit3/deit3-large-p16_in21k-pre_3rdparty_in1k_20221009-d8d27084.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/../_base_/deit3-large-p16_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            gamma=1.0)))

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
