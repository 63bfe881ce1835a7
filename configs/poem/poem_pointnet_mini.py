_base_ = './_base_/poem_pointnet_mini.py'

binary = dict(type='poem', rec_weight=1e-4, em_weight=1e-3)
model = dict(backbone=dict(binary=binary), neck=dict(binary=binary))
