# ResNet-20 alone, with the recipe of IE-KD's code
_base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py', './runtime.py']

model = dict(
    backbone=dict(_delete_=True, type='mmcompress.CifarResNet', depth=20),
    head=dict(in_channels=64))

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4, padding_mode='reflect'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')
]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(optimizer=dict(nesterov=True, weight_decay=5e-4))
param_scheduler = dict(milestones=[80, 120])
train_cfg = dict(max_epochs=160)
