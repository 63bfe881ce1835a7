_base_ = '../_base_/mini_classification.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmcompress.BiResNet',
        depth=18,
        base_channels=16,
        num_stages=3,
        strides=(2, 2, 2),
        out_indices=(2, ),
        small_stem=True,
        # trained from scratch
        norm_eval=False,
        block='react',
        conv_cfg=dict(type='mmcompress.RBONNConv2d')))

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'conv.u': dict(lr_mult=0.1)}))
