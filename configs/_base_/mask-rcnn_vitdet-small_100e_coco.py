_base_ = './mask-rcnn_vitdet-base_100e_coco.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536),
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='cache://g2sd_generic_vit-small_mae-base')),
    neck=dict(in_channels=384))
