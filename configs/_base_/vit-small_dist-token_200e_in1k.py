# G2SD's student of its specific stage, batch 1024
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
    './runtime.py'
]

model = dict(
    backbone=dict(
        type='mmcompress.DistTokenVisionTransformer',
        arch=dict(
            _delete_=True,
            embed_dims=384,
            num_layers=12,
            num_heads=6,
            feedforward_channels=1536),
        drop_path_rate=0.0,
        out_type='cls_token',
        final_norm=True,
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='cache://g2sd_generic_vit-small_mae-base')),
    head=dict(
        type='mmcompress.DistTokenClsHead',
        in_channels=384,
        loss=dict(loss_weight=0.5)))

optim_wrapper = dict(
    optimizer=dict(lr=4e-3),
    paramwise_cfg=dict(
        layer_decay_rate=0.75,
        custom_keys={'.dist_token': dict(decay_mult=0.0)}))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=195,
        eta_min=1e-6,
        by_epoch=True,
        begin=5,
        end=200,
        convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=200)
default_hooks = dict(
    pretrained=dict(
        type='mmcompress.CheckPretrainedHook', new=['^dist_token$']))
