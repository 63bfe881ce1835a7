_base_ = '../_base_/mae_vit-small_300e_in1k.py'

teacher_ckpt = 'https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'  # noqa: E501

hidden = dict(hidden='neck.decoder_blocks.3', mask='backbone[1]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-1600e_in1k.py',
        checkpoint=teacher_ckpt,
        mode='loss'),
    shared_draws='backbone.random_masking',
    losses=dict(
        loss_g2sd=dict(
            type='mmcompress.G2SDGenericLoss',
            student=hidden,
            teacher=hidden,
            student_dims=256,
            teacher_dims=512)))

default_hooks = dict(keep=dict(name='g2sd_generic_vit-small_mae-base'))
