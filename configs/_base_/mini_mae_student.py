# a smaller encoder and decoder, which learn from features, not from pixels
_base_ = './mini_mae.py'

model = dict(
    type='mmcompress.MAEWithoutPixels',
    backbone=dict(
        arch=dict(embed_dims=48, num_heads=2, feedforward_channels=96)),
    neck=dict(
        type='mmcompress.MAEFeatureDecoder',
        embed_dim=48,
        decoder_embed_dim=32,
        decoder_depth=2),
    head=None)
