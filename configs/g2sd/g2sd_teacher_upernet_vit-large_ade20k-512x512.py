# to be trained first: mmseg has no checkpoint of it
_base_ = [
    'mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py',
    '../_base_/runtime.py'
]

# weights of the encoder alone, named as mmpretrain's: see the README
model = dict(
    pretrained='./pretrain/mae_vit-large_encoder.pth',
    backbone=dict(
        embed_dims=1024,
        num_layers=24,
        num_heads=16,
        drop_path_rate=0.2,
        out_indices=[7, 11, 15, 23]),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024))

optim_wrapper = dict(paramwise_cfg=dict(num_layers=24))
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='g2sd_teacher_upernet_vit-large_ade20k-512x512'))
