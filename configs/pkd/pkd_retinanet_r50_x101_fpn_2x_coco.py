_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/runtime.py'
]

# box AP 41.0
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss',
            student='neck[0:4]',
            teacher='neck[0:4]',
            loss_weight=10.0)))
