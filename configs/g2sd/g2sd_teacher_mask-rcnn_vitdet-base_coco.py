# to be trained first: mmdet has no checkpoint of it
_base_ = '../_base_/mask-rcnn_vitdet-base_100e_coco.py'

default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='g2sd_teacher_mask-rcnn_vitdet-base_coco'))
