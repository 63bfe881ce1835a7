# first stage: an autoencoder learns each level of the teacher's neck
_base_ = [
    'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', '../_base_/runtime.py'
]

# box AP 38.9
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.FeatureAutoencoder',
    teacher=dict(
        cfg='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        checkpoint=teacher_ckpt),
    tap='neck',
    channels=256,
    num_levels=5,
    factor_channels=128)

param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0)
train_cfg = dict(max_epochs=1)

default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='ie_kd_autoencoder_retinanet_r101_fpn_coco'))
