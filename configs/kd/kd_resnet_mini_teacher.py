_base_ = './kd_resnet_mini_student.py'

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    head=dict(in_channels=128))

# students find it as `checkpoint='cache://kd_resnet_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='kd_resnet_mini_teacher'))
