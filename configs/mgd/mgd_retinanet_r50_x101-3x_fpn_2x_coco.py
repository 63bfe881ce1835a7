# with the stronger teacher of the released config
_base_ = './mgd_retinanet_r50_x101_fpn_2x_coco.py'

# box AP 41.6
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_mstrain_3x_coco/retinanet_x101_64x4d_fpn_mstrain_3x_coco_20210719_051838-022c2187.pth'  # noqa: E501

model = dict(
    teacher=dict(
        cfg='mmdet::retinanet/retinanet_x101-64x4d_fpn_ms-640-800-3x_coco.py',
        checkpoint=teacher_ckpt))
