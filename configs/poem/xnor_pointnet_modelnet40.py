_base_ = './_base_/poem_pointnet_modelnet40.py'

# XNOR-Net has a ReLU after the norm
binary = dict(type='xnor')
model = dict(
    backbone=dict(binary=binary, act='relu'),
    neck=dict(binary=binary, act='relu'))
