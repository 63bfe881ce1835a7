_base_ = './vit-small_dist-token_200e_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768),
        init_cfg=dict(checkpoint='cache://g2sd_generic_vit-tiny_mae-base')),
    head=dict(in_channels=192))
