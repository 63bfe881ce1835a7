# 1,000 Gaussians on ModelNet40
_base_ = 'mmcompress::poem/float_pointnet_modelnet40.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'rbf_points'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='mmcompress.RBFNet', num_kernels=1000),
    neck=dict(in_channels=1000))
