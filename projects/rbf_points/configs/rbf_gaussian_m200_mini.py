# 200 Gaussians on the mini clouds, in place of POEM's real-valued PointNet
_base_ = 'mmcompress::poem/float_pointnet_mini.py'

# a list replaces that of the base, so what it imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'rbf_points'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='mmcompress.RBFNet', num_kernels=200),
    neck=dict(in_channels=200))

optim_wrapper = dict(optimizer=dict(lr=0.003))
