_base_ = ['../q_vit/q_vit_swin_mini_teacher.py', '../_base_/quantization.py']

softmax = [
    f'backbone.stages.{stage}.blocks.{block}.attn.w_msa.softmax'
    for stage in range(2) for block in range(2)
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model,
        steps=[
            dict(
                type='mmcompress.QuantizeLayers',
                weight=dict(type='SignWeight'),
                activation=dict(type='SignActivation'),
                attention=dict(type='ActBi'),
                softmax=dict(type='LSF'),
                first_last=dict(weight=None, activation=None),
                # between stages, scales are learned
                overrides={
                    'backbone.stages.*.downsample.reduction':
                    dict(
                        weight=dict(type='ActBi', offset=None),
                        activation=dict(type='ActBi'))
                })
        ]),
    teacher=dict(
        cfg='{{ fileDirname }}/../q_vit/q_vit_swin_mini_teacher.py',
        checkpoint='cache://q_vit_swin_mini_teacher'),
    losses=dict(
        loss_rank=dict(
            type='mmcompress.RankDistillLoss',
            student=softmax,
            teacher=softmax)))

load_from = 'cache://q_vit_swin_mini_teacher'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=3, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
