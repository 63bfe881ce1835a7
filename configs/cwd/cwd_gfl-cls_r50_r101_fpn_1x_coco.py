_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/runtime.py']

# box AP 44.7
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint=teacher_ckpt),
    losses=dict(
        loss_cwd=dict(
            type='mmcompress.CWDLoss',
            student='bbox_head.gfl_cls',
            teacher='bbox_head.gfl_cls',
            tau=1.0,
            loss_weight=10.0)))
