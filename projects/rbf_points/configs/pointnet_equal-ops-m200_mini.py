# as many operations as rbf_gaussian_m200_mini.py
_base_ = 'mmcompress::poem/float_pointnet_mini.py'

model = dict(
    backbone=dict(local_channels=(16, ), channels=(16, 36)),
    neck=dict(in_channels=36))

optim_wrapper = dict(optimizer=dict(lr=0.003))
