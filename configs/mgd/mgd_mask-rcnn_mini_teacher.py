_base_ = './mgd_mask-rcnn_mini_student.py'

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256]))

# students find it as `checkpoint='cache://mgd_mask-rcnn_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='mgd_mask-rcnn_mini_teacher'))
