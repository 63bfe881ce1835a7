# as many operations as rbf_gaussian_m1000_mini.py
_base_ = 'mmcompress::poem/float_pointnet_mini.py'

model = dict(
    backbone=dict(local_channels=(32, ), channels=(32, 104)),
    neck=dict(in_channels=104))

optim_wrapper = dict(optimizer=dict(lr=0.003))
