_base_ = './upernet_vit-small_160k_ade20k-512x512.py'

model = dict(
    pretrained='cache://g2sd_generic_vit-tiny_mae-base',
    backbone=dict(embed_dims=192, num_heads=3),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=192),
    auxiliary_head=dict(in_channels=192))
