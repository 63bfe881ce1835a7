# 1-bit weights and activations of the layer before the classifier
_base_ = './rbf_gaussian_m200_mini.py'

model = dict(neck=dict(binary=dict(type='poem')))
