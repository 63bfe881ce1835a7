_base_ = '../_base_/vit-tiny_dist-token_200e_in1k.py'

# top-1 83.5
teacher_ckpt = 'https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/vit-base-p16_ft-8xb128-coslr-100e_in1k/vit-base-p16_ft-8xb128-coslr-100e_in1k_20220825-cf70aa21.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_hard=dict(
            type='mmcompress.HardKDLoss',
            student='head.layers.head_dist',
            teacher='head',
            loss_weight=0.5)))
