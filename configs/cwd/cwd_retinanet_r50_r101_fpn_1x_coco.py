_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/runtime.py'
]

# box AP 38.9
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_cwd=dict(
            type='mmcompress.CWDLoss',
            student='neck',
            teacher='neck',
            tau=1.0,
            loss_weight=10.0)))
