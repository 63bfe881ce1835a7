# the same network with real-valued convolutions
_base_ = './bi_ssd_vgg16_mini.py'

model = dict(backbone=dict(conv_cfg=dict(type='Conv2d')))
