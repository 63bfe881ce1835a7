_base_ = [
    'mmseg::_base_/models/pspnet_r50-d8.py', './gradient_filter_voc12aug.py'
]

crop_size = (512, 512)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=crop_size),
    backbone=dict(depth=18, norm_cfg=dict(type='BN')),
    decode_head=dict(
        in_channels=512,
        channels=128,
        dropout_ratio=0.0,
        num_classes=21,
        norm_cfg=dict(type='BN')),
    auxiliary_head=None)
