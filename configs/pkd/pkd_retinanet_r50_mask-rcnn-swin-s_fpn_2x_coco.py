_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py', '../_base_/runtime.py'
]

# box AP 48.2, mask AP 43.2
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss',
            student='neck[0:4]',
            teacher='neck[0:4]',
            loss_weight=6.0)))
