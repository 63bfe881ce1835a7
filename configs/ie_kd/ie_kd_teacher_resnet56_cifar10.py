# to be trained first: it is published nowhere
_base_ = '../_base_/resnet20_1xb128_cifar10.py'

model = dict(backbone=dict(depth=56))

default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='ie_kd_teacher_resnet56_cifar10'))
