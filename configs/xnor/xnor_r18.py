_base_ = '../bireal/bireal_r18.py'

model = dict(
    backbone=dict(block='xnor', norm_cfg=dict(type='BN', eps=1e-4)),
    head=dict(loss=dict(_delete_=True, type='CrossEntropyLoss')))

optim_wrapper = dict(optimizer=dict(weight_decay=1e-5))
