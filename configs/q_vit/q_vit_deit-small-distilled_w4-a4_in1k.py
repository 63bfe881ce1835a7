# weights, activations and what attention multiplies have 4 bits, the patch
# embedding and the heads 8
_base_ = [
    'mmpretrain::deit/deit-small-distilled_4xb256_in1k.py',
    '../_base_/runtime.py'
]

# top-1 81.17
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small-distilled_3rdparty_pt-4xb256_in1k_20211216-4de1d725.pth'  # noqa: E501

attentions = [f'backbone.layers.{i}.attn' for i in range(12)]
products = [f'{attn}.scaled_dot_product_attention' for attn in attentions]

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
                in_channels=384,
                loss=dict(type='CrossEntropyLoss', loss_weight=0.5)),
            # no Mixup, no CutMix
            train_cfg=None),
        steps=[
            dict(
                type='mmcompress.QuantizeLayers',
                weight=dict(type='LSQ', bits=4),
                activation=dict(type='LSQ', bits=4),
                attention=dict(type='LSQ', bits=4),
                query_norm=dict(type='IRM'),
                key_norm=dict(type='IRM'))
        ]),
    teacher=dict(
        cfg='mmpretrain::deit/deit-small-distilled_4xb256_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        loss_hard=dict(
            type='mmcompress.HardKDLoss',
            student='head.layers.head_dist',
            teacher='head',
            loss_weight=0.5),
        loss_dgd=dict(
            type='mmcompress.DGDLoss',
            student=dict(
                q=[f'{product}.norm_q' for product in products],
                k=[f'{product}.norm_k' for product in products]),
            teacher=[f'{attn}.qkv' for attn in attentions])))

load_from = float_ckpt

# 4 GPUs
train_dataloader = dict(
    batch_size=128, sampler=dict(type='RepeatAugSampler', shuffle=True))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='Lamb', lr=3e-4, weight_decay=0.),
    clip_grad=None)
param_scheduler = dict(
    _delete_=True,
    type='CosineAnnealingLR',
    eta_min=1e-5,
    by_epoch=True,
    begin=0,
    end=300,
    convert_to_iter_based=True)
auto_scale_lr = dict(base_batch_size=512)
