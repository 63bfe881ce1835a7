# a small DAB-DETR alone, on one map: its queries are multiplied with keys in
# the cross-attention, too
_base_ = './q_detr_deformable_detr_mini_teacher.py'

attention = dict(embed_dims=64, num_heads=4, batch_first=True)
ffn = dict(embed_dims=64, feedforward_channels=128, act_cfg=dict(type='PReLU'))

model = dict(
    _delete_=True,
    type='DABDETR',
    num_queries=40,
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        base_channels=32,
        stem_channels=32,
        out_indices=(2, ),
        # trained from scratch
        frozen_stages=-1,
        norm_eval=False),
    neck=dict(
        type='ChannelMapper',
        in_channels=[128],
        kernel_size=1,
        out_channels=64,
        act_cfg=None,
        norm_cfg=dict(type='GN', num_groups=8),
        num_outs=1),
    encoder=dict(
        num_layers=1,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=64, num_heads=4, batch_first=True),
            ffn_cfg=ffn)),
    decoder=dict(
        num_layers=3,
        query_dim=4,
        query_scale_type='cond_elewise',
        with_modulated_hw_attn=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=64, num_heads=4, cross_attn=False),
            cross_attn_cfg=dict(embed_dims=64, num_heads=4, cross_attn=True),
            ffn_cfg=ffn),
        return_intermediate=True),
    positional_encoding=dict(num_feats=32, temperature=20, normalize=True),
    bbox_head=dict(
        type='DABDETRHead',
        num_classes=10,
        embed_dims=64,
        loss_cls=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            loss_weight=2.0),
        loss_bbox=dict(type='L1Loss', loss_weight=5.0),
        loss_iou=dict(type='GIoULoss', loss_weight=2.0)),
    train_cfg=_base_.model.train_cfg,
    test_cfg=dict(max_per_img=40))

optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(_delete_=True)))

# students find it as `checkpoint='cache://q_detr_dab_detr_mini_teacher'`
default_hooks = dict(keep=dict(name='q_detr_dab_detr_mini_teacher'))
