# Pictures of a digit and 80 captions such as "small three above left": 6,000
# to train on, 1,000 to find captions for, 32 x 32 pixels, rendered when they
# are first asked for. Needs transformers: requirements/multimodal.txt.
_base_ = ['mmpretrain::_base_/default_runtime.py', './runtime.py']

data_preprocessor = dict(
    type='MultiModalDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True)

model = dict(
    type='mmcompress.CLIPRetrieval',
    # 65 tokens
    vision_backbone=dict(
        type='VisionTransformer',
        arch=dict(
            embed_dims=64, num_layers=4, num_heads=4,
            feedforward_channels=256),
        img_size=32,
        patch_size=4,
        # patches overlap
        patch_cfg=dict(kernel_size=8, padding=2),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        norm_cfg=dict(type='LN', eps=1e-5),
        pre_norm=True),
    projection=dict(type='CLIPProjection', in_channels=64, out_channels=32),
    text_backbone=dict(
        type='CLIPTransformer', width=48, layers=4, heads=4, attn_mask=True),
    tokenizer=dict(
        type='mmcompress.RenderedTokenizer',
        tokenizer=dict(type='AutoTokenizer', use_fast=False)),
    vocab_size=81,
    transformer_width=48,
    proj_dim=32,
    context_length=8)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.Rendered',
        task='captions',
        dataset=dict(type='mmcompress.CaptionedImages', ann_file='train.json'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='PackInputs',
                algorithm_keys=['text'],
                meta_keys=['image_id'])
        ]))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='SequentialSampler', subsample_type='sequential'),
    dataset=dict(
        type='mmcompress.Rendered',
        task='captions',
        dataset=dict(
            type='mmcompress.CaptionedImages',
            ann_file='val.json',
            test_mode=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                type='PackInputs',
                algorithm_keys=['text', 'gt_text_id', 'gt_image_id'],
                meta_keys=['image_id'])
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='RetrievalRecall', topk=(1, 5))
test_evaluator = val_evaluator

# 1,860 steps
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=20)
val_cfg = dict(type='RetrievalValLoop')
test_cfg = dict(type='RetrievalTestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=93),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=20,
        T_max=20,
        convert_to_iter_based=True)
]

default_hooks = dict(
    logger=dict(interval=93),
    checkpoint=dict(type='CheckpointHook', interval=20, max_keep_ckpts=1))
randomness = dict(seed=0)
