# ResNet-18 alone, with the schedule of the distillation papers
_base_ = ['mmpretrain::resnet/resnet50_8xb16_cifar100.py', './runtime.py']

model = dict(backbone=dict(depth=18), head=dict(in_channels=512))
