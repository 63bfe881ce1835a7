_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py', '../_base_/runtime.py']

# top-1 80.69
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::deit/deit-small_4xb256_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_nkd=dict(
            type='mmcompress.NKDLoss',
            student='head',
            teacher='head',
            temp=1.0,
            gamma=1.0)))
