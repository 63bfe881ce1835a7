# our own recipe: the authors released none for COCO
_base_ = './ida_det_student_r18_coco.py'

# box AP 39.8
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r101_fpn_2x_coco/faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth'  # noqa: E501

taps = dict(neck='neck', rpn='rpn_head')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::faster_rcnn/faster-rcnn_r101_fpn_2x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_ida=dict(
            type='mmcompress.IDaDetLoss',
            student=taps,
            teacher=taps,
            score_thr=0.85,
            gamma=0.6,
            hint_neck_w=0.5)))
