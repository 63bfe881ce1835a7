# a small ResNet alone; students of the other methods' mini configs are alike
_base_ = '../_base_/mini_classification.py'

model = dict(
    backbone=dict(base_channels=8, stem_channels=8), head=dict(in_channels=32))
