# the released code has no Swin; its recipe is that of DeiT
_base_ = [
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    '../_base_/runtime.py'
]

# top-1 81.18
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'  # noqa: E501

attentions = [
    f'backbone.stages.{stage}.blocks.{block}.attn.w_msa'
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
            head=dict(
                _base_.model.head,
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
        cfg='mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        # there is no token for the teacher alone
        loss_hard=dict(
            type='mmcompress.HardKDLoss',
            student='head',
            teacher='head',
            loss_weight=0.5),
        loss_dgd=dict(
            type='mmcompress.DGDLoss',
            student=dict(
                q=[f'{attn}.products.norm_q' for attn in attentions],
                k=[f'{attn}.products.norm_k' for attn in attentions]),
            teacher=[f'{attn}.qkv' for attn in attentions])))

load_from = float_ckpt

# 4 GPUs
train_dataloader = dict(batch_size=128)
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
