# a plain RetinaNet whose convolutions have 1 bit, from its float checkpoint on
_base_ = '../fgd/fgd_retinanet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.ReplaceConvs',
            conv_cfg=dict(type='mmcompress.IDaDetConv2d'),
            include=['backbone', 'neck', 'bbox_head'],
            # the image, 1x1 shortcuts, and what predicts stay float
            exclude=[
                'backbone.conv1', '*.downsample.0', '*.retina_cls',
                '*.retina_reg'
            ])
    ])

load_from = 'cache://fgd_retinanet_mini_teacher'

train_cfg = dict(max_epochs=4, val_interval=4)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=4, convert_to_iter_based=True)
]
default_hooks = dict(keep=dict(name=None))
