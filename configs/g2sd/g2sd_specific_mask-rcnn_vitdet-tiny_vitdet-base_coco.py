_base_ = './g2sd_specific_mask-rcnn_vitdet-small_vitdet-base_coco.py'

model = dict(
    student=dict(
        backbone=dict(
            arch=dict(embed_dims=192, num_heads=3, feedforward_channels=768),
            init_cfg=dict(
                checkpoint='cache://g2sd_generic_vit-tiny_mae-base')),
        neck=dict(in_channels=192)))
