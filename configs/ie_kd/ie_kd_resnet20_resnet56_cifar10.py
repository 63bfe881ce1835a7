_base_ = '../_base_/resnet20_1xb128_cifar10.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='./ie_kd_autoencoder_resnet56_cifar10.py',
        checkpoint='cache://ie_kd_autoencoder_resnet56_cifar10'),
    losses=dict(
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='backbone.layer3',
            teacher='autoencoder.encoder',
            student_channels=64,
            factor_channels=32)))
