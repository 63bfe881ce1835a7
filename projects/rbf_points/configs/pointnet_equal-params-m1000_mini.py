# as many parameters as rbf_gaussian_m1000_mini.py
_base_ = 'mmcompress::poem/float_pointnet_mini.py'

model = dict(
    backbone=dict(local_channels=(64, ), channels=(64, 128, 448)),
    neck=dict(in_channels=448))

optim_wrapper = dict(optimizer=dict(lr=0.003))
