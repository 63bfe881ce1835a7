_base_ = '../_base_/mask-rcnn_vitdet-small_100e_coco.py'

taps = dict(feats='neck', objectness='rpn_head[0]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/g2sd_teacher_mask-rcnn_vitdet-base_coco.py',
        checkpoint='cache://g2sd_teacher_mask-rcnn_vitdet-base_coco'),
    losses=dict(
        loss_g2sd=dict(
            type='mmcompress.G2SDDetLoss',
            student=taps,
            teacher=taps,
            distill_feat_weight=1e-3,
            distill_cls_weight=0.1,
            schedule=dict(type='mmcompress.IterWarmup', num_iters=500))))
