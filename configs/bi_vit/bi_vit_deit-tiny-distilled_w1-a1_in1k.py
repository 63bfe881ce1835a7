# everything between the patch embedding and the heads has 1 bit, also what
# attention multiplies
_base_ = [
    'mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py',
    '../_base_/runtime.py'
]

# top-1 74.51
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-tiny-distilled_3rdparty_pt-4xb256_in1k_20211216-c429839a.pth'  # noqa: E501

attentions = [f'backbone.layers.{i}.attn' for i in range(12)]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=dict(
            _base_.model,
            backbone=dict(_base_.model.backbone, drop_path_rate=0.1),
            # labels train the class token, the teacher the other one
            head=dict(
                type='mmcompress.QDeiTClsHead',
                num_classes=1000,
                in_channels=192,
                loss=dict(type='CrossEntropyLoss', loss_weight=0.5)),
            # no Mixup, no CutMix
            train_cfg=None),
        steps=[
            dict(
                type='mmcompress.QuantizeLayers',
                weight=dict(type='SignWeight'),
                activation=dict(type='SignActivation'),
                attention=dict(type='ActBi'),
                softmax=dict(type='LSF'),
                query_norm=dict(type='IRM'),
                key_norm=dict(type='IRM'),
                first_last=dict(weight=None, activation=None))
        ]),
    teacher=dict(
        cfg='mmpretrain::deit/deit-tiny-distilled_4xb256_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        loss_hard=dict(
            type='mmcompress.HardKDLoss',
            student='head.layers.head_dist',
            teacher='head',
            loss_weight=0.5),
        loss_rank=dict(
            type='mmcompress.RankDistillLoss',
            # the map before it has 1 bit
            student=[
                f'{attn}.scaled_dot_product_attention.av@input'
                for attn in attentions
            ],
            teacher=[f'{attn}.qkv' for attn in attentions])))

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
