_base_ = ['mmdet::tood/tood_r50_fpn_1x_coco.py', '../_base_/runtime.py']

# box AP 46.1
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/tood/tood_r101_fpn_mstrain_2x_coco/tood_r101_fpn_mstrain_2x_coco_20211210_144232-a18f53c8.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::tood/tood_r101_fpn_ms-2x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_pkd=dict(
            type='mmcompress.PKDLoss',
            student='neck[0:4]',
            teacher='neck[0:4]',
            loss_weight=10.0)))
