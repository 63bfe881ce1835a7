_base_ = './mae_vit-small_300e_in1k.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768)),
    neck=dict(embed_dim=192, decoder_embed_dim=128, decoder_num_heads=4))
