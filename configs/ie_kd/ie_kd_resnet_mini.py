_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/ie_kd_resnet_mini_autoencoder.py',
        checkpoint='cache://ie_kd_resnet_mini_autoencoder'),
    losses=dict(
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='backbone.layer3',
            teacher='autoencoder.encoder',
            student_channels=32,
            factor_channels=32)))
