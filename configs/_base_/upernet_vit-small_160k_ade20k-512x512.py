_base_ = [
    'mmseg::mae/mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py',
    './runtime.py'
]

model = dict(
    # of G2SD's generic stage
    pretrained='cache://g2sd_generic_vit-small_mae-base',
    backbone=dict(embed_dims=384, num_heads=6),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384))

default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook',
        new=['relative_position', 'gamma_']))
