_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/runtime.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='./ie_kd_autoencoder_retinanet_r101_fpn_coco.py',
        checkpoint='cache://ie_kd_autoencoder_retinanet_r101_fpn_coco'),
    losses=dict(
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='neck',
            teacher='autoencoder.encoder',
            student_channels=256,
            num_levels=5,
            factor_channels=128)))
