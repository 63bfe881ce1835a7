_base_ = './rbf_gaussian_m200_mini.py'

model = dict(backbone=dict(num_kernels=500), neck=dict(in_channels=500))
