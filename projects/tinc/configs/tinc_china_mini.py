# A part of a photo that scikit-learn ships, 256 x 256, at up to 0.5 bits per
# pixel. `tinc.build_config` changes signal, budget and tree for other files.
_base_ = 'mmcompress::_base_/runtime.py'

# a list replaces that of the base, so what runtime.py imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'tinc'], allow_failed_imports=False)
# whose tools/train.py runs it; nothing else of that library is used
default_scope = 'mmpretrain'

# top, left, height, width
signal = dict(file='sklearn:china.jpg', crop=[100, 180, 256, 256])
levels = 3

model = dict(
    type='mmcompress.TINC',
    signal=signal,
    bpp=0.5,
    levels=levels,
    weight_quant=dict(type='mmcompress.LSQ', bits=6),
    fine_quant=dict(type='mmcompress.LSQ', bits=8))
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    collate_fn=dict(type='pseudo_collate'),
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.SignalBlocks',
        signal=signal,
        levels=levels,
        pixels=8192))

train_cfg = dict(type='IterBasedTrainLoop', max_iters=2000)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=0.02),
    # scales are a hundredth of what they scale
    paramwise_cfg=dict(custom_keys={'_quant': dict(lr_mult=0.02)}))
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=0,
        end=2000,
        T_max=2000,
        eta_min_ratio=0.01)
]
custom_hooks = _base_.mmcompress_hooks + [
    dict(type='mmcompress.QuantizeFromHook', begin=0.6),
    dict(type='mmcompress.WriteTINCHook', file='signal.tinc')
]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', interval=1000, by_epoch=False,
        max_keep_ckpts=1),
    sampler_seed=dict(type='DistSamplerSeedHook'))
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)
log_level = 'INFO'
randomness = dict(seed=0)
