_base_ = [
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    '../_base_/runtime.py'
]

# top-1 81.18
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'  # noqa: E501

softmax = [
    f'backbone.stages.{stage}.blocks.{block}.attn.w_msa.softmax'
    for stage, depth in enumerate((2, 2, 6, 2)) for block in range(depth)
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=dict(
            _base_.model,
            backbone=dict(_base_.model.backbone, drop_path_rate=0.1),
            # the teacher alone tells the classes
            head=dict(
                _base_.model.head,
                loss=dict(type='CrossEntropyLoss', loss_weight=0.)),
            # no Mixup, no CutMix
            train_cfg=None),
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
        cfg='mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head',
            teacher='head',
            tau=1.0,
            reduction='batchmean'),
        loss_rank=dict(
            type='mmcompress.RankDistillLoss',
            student=softmax,
            teacher=softmax)))

load_from = float_ckpt

# 8 GPUs
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    clip_grad=None,
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5)
]
auto_scale_lr = dict(base_batch_size=512)
