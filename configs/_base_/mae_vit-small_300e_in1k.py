# G2SD's student of its generic stage: a small MAE without pixels, batch 4096
_base_ = [
    'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    './runtime.py'
]

model = dict(
    type='mmcompress.MAEWithoutPixels',
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=384,
            num_layers=12,
            num_heads=6,
            feedforward_channels=1536)),
    neck=dict(
        type='mmcompress.MAEFeatureDecoder',
        embed_dim=384,
        decoder_embed_dim=256,
        decoder_depth=4,
        decoder_num_heads=8),
    head=None)

# its encoder is what the specific stages start from, as 'cache://NAME'
default_hooks = dict(
    keep=dict(type='mmcompress.CacheTeacherHook', part='backbone'))
optim_wrapper = dict(
    paramwise_cfg=dict(
        _delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=10,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=290,
        eta_min=2.5e-6,
        by_epoch=True,
        begin=10,
        end=300,
        convert_to_iter_based=True)
]
