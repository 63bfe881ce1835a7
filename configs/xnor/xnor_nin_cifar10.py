# the network in network of the PyTorch port, whose checkpoints convert
_base_ = [
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/default_runtime.py', '../_base_/runtime.py'
]

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmcompress.XNORNIN'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')))

train_dataloader = dict(batch_size=128)
train_cfg = dict(by_epoch=True, max_epochs=320, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.001, weight_decay=1e-5))
param_scheduler = dict(
    type='MultiStepLR', milestones=[120, 200, 240, 280], gamma=0.1)
