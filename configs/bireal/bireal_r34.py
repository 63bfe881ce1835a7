_base_ = './bireal_r18.py'

model = dict(backbone=dict(depth=34))
