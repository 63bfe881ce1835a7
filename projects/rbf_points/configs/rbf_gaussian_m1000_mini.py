_base_ = './rbf_gaussian_m200_mini.py'

model = dict(backbone=dict(num_kernels=1000), neck=dict(in_channels=1000))
