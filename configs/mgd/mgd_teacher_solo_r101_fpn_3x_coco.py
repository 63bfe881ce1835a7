# to be trained first: mmdet has no checkpoint of it
_base_ = ['mmdet::solo/solo_r50_fpn_3x_coco.py', '../_base_/runtime.py']

model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(checkpoint='torchvision://resnet101')))

# students find it as `checkpoint='cache://mgd_teacher_solo_r101_fpn_3x_coco'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='mgd_teacher_solo_r101_fpn_3x_coco'))
