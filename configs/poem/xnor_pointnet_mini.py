_base_ = './_base_/poem_pointnet_mini.py'

# XNOR-Net has a ReLU after the norm
binary = dict(type='xnor')
model = dict(
    backbone=dict(binary=binary, act='relu'),
    neck=dict(binary=binary, act='relu'))
