# CLIP ViT-B/16, fine-tuned for retrieval on Flickr30k: 12 epochs, 8 x 64.
# Needs transformers, and the folder of CLIP's tokenizer (vocab.json,
# merges.txt, tokenizer_config.json), by its path or by its name on the hub.
_base_ = [
    'mmpretrain::_base_/datasets/flickr30k_retrieval.py',
    'mmpretrain::_base_/default_runtime.py', './runtime.py'
]

model = dict(
    type='mmcompress.CLIPRetrieval',
    vision_backbone=dict(
        type='VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        # of the pretrained weights
        norm_cfg=dict(type='LN', eps=1e-5),
        pre_norm=True),
    projection=dict(type='CLIPProjection', in_channels=768, out_channels=512),
    text_backbone=dict(
        type='CLIPTransformer', width=512, layers=12, heads=8, attn_mask=True),
    tokenizer=dict(
        type='AutoTokenizer',
        name_or_path='openai/clip-vit-base-patch16',
        use_fast=False),
    vocab_size=49408,
    transformer_width=512,
    proj_dim=512,
    context_length=77)

# whole images, no random crop
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='Resize',
        scale=(224, 224),
        interpolation='bicubic',
        backend='pillow'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies={{_base_.rand_increasing_policies}},
        num_policies=2,
        magnitude_level=5),
    dict(type='CleanCaption', keys='text'),
    dict(
        type='PackInputs',
        algorithm_keys=['text', 'is_matched'],
        meta_keys=['image_id'])
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='Resize',
        scale=(224, 224),
        interpolation='bicubic',
        backend='pillow'),
    dict(type='CleanCaption', keys='text'),
    dict(
        type='PackInputs',
        algorithm_keys=['text', 'gt_text_id', 'gt_image_id'],
        meta_keys=['image_id'])
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

train_cfg = dict(by_epoch=True, max_epochs=12, val_interval=1)
val_cfg = dict(type='RetrievalValLoop')
test_cfg = dict(type='RetrievalTestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-5, weight_decay=0.05))
param_scheduler = dict(
    type='CosineAnnealingLR', by_epoch=True, begin=0, end=12, T_max=12)
default_hooks = dict(
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=1,
        save_best='i2t/retrieval/Recall@1',
        rule='greater'))
