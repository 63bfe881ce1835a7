# the student alone: mmseg has it for other crops and schedules only
_base_ = [
    'mmseg::_base_/models/deeplabv3_r50-d8.py',
    './_base_/cityscapes_512x512_40k.py'
]

model = dict(
    data_preprocessor=dict(size=(512, 512)),
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64))
