# The mini teacher was trained on digits that stand upright. Here it is
# fine-tuned on digits that stand on their heads; the last stage and the head
# learn.
_base_ = 'mmcompress::cwd/cwd_pspnet_mini_teacher.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'gradient_filter'],
    allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.FilterGradients',
            layers={
                'decode_head.bottleneck.conv': 2,
                'backbone.layer4.*.conv?': 2
            },
            freeze=['*', '~decode_head', '~backbone.layer4.*.conv?'],
            norm_eval=True)
    ])

load_from = 'cache://cwd_pspnet_mini_teacher'

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomFlip', prob=1.0, direction='vertical'),
    dict(type='PackSegInputs')
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.02, momentum=0.9),
    clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=25),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=2,
        T_max=2,
        convert_to_iter_based=True)
]
default_hooks = dict(keep=dict(name=None))
