# images of 32 x 32 pixels in a folder per class, such as a part of CIFAR-10:
# data/cifar10_subset/{train,test}/<class>/*.jpg
_base_ = './biformer_mini.py'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
images = dict(
    _delete_=True, type='CustomDataset', data_root='data/cifar10_subset')
train_dataloader = dict(
    dataset=dict(images, data_prefix='train', pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(images, data_prefix='test', pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=12, val_interval=12)
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=12, T_max=12)
]
default_hooks = dict(checkpoint=dict(interval=12))
