# ImageNet with the schedule of most 1-bit methods: Adam, 256 epochs, the rate
# falls linearly to 0, no weight decay; 512 images in all: 8 devices with 64
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs64.py',
    'mmpretrain::_base_/default_runtime.py', './runtime.py'
]

train_cfg = dict(by_epoch=True, max_epochs=256, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.001, weight_decay=0.0))
param_scheduler = dict(
    type='LinearLR', start_factor=1.0, end_factor=0.0, begin=0, end=256)
auto_scale_lr = dict(base_batch_size=512)
