# as many parameters as rbf_gaussian_m200_mini.py
_base_ = 'mmcompress::poem/float_pointnet_mini.py'

model = dict(
    backbone=dict(local_channels=(32, ), channels=(32, 48, 128)),
    neck=dict(in_channels=128))

optim_wrapper = dict(optimizer=dict(lr=0.003))
