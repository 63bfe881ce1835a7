_base_ = './dwpose_student_mini.py'

model = dict(
    backbone=dict(base_channels=24, stem_channels=24),
    head=dict(in_channels=96))

# students find it as `checkpoint='cache://dwpose_teacher_mini'`
default_hooks = dict(
    keep=dict(type='mmcompress.CacheTeacherHook', name='dwpose_teacher_mini'))
