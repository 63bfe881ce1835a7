# to be trained first: mmpretrain has no checkpoint of it
_base_ = '../_base_/resnet18_8xb16_cifar100.py'

model = dict(backbone=dict(depth=34))

# students find it as `checkpoint='cache://nkd_teacher_resnet34_cifar100'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='nkd_teacher_resnet34_cifar100'))
