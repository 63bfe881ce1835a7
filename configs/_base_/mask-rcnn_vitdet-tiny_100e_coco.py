_base_ = './mask-rcnn_vitdet-base_100e_coco.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768),
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='cache://g2sd_generic_vit-tiny_mae-base')),
    neck=dict(in_channels=192))
