# three widths per centre
_base_ = './rbf_gaussian_m200_mini.py'

model = dict(backbone=dict(scales=(0.5, 1.0, 2.0)), neck=dict(in_channels=600))
