# the real-valued network
_base_ = './_base_/poem_pointnet_modelnet40.py'
