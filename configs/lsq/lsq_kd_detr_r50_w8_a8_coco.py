_base_ = './lsq_detr_r50_w8_a8_coco.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::detr/detr_r50_8xb2-150e_coco.py',
        checkpoint=_base_.float_ckpt),
    losses=dict(
        # both have the same queries
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='bbox_head.fc_cls',
            teacher='bbox_head.fc_cls',
            class_axis=-1,
            reduction='mean',
            loss_weight=10.0)))
