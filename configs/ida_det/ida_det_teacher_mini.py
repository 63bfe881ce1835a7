_base_ = './_base_/ida_det_faster-rcnn_mini.py'

# students find it as `checkpoint='cache://ida_det_teacher_mini'`
default_hooks = dict(
    keep=dict(type='mmcompress.CacheTeacherHook', name='ida_det_teacher_mini'))
