_base_ = './g2sd_generic_vit-small_mae-base_in1k.py'

teacher_ckpt = 'https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k_20220825-cc7e98c9.pth'  # noqa: E501

model = dict(
    teacher=dict(
        cfg='mmpretrain::mae/mae_vit-large-p16_8xb512-amp-coslr-1600e_in1k.py',
        checkpoint=teacher_ckpt))

default_hooks = dict(keep=dict(name='g2sd_generic_vit-small_mae-large'))
