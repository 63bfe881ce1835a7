_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', '../_base_/runtime.py'
]

# box AP 39.8
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_2x_coco/faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth'  # noqa: E501

taps = dict(feats='neck', objectness='rpn_head[0]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_g2sd=dict(
            type='mmcompress.G2SDDetLoss',
            student=taps,
            teacher=taps,
            schedule=dict(type='mmcompress.IterWarmup', num_iters=500))))
