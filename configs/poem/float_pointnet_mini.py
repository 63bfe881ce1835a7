# the real-valued network
_base_ = './_base_/poem_pointnet_mini.py'

optim_wrapper = dict(optimizer=dict(lr=0.001))
