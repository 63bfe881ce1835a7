# first stage: an autoencoder learns the teacher's last feature
_base_ = './ie_kd_teacher_resnet56_cifar10.py'

model = dict(
    _delete_=True,
    type='mmcompress.FeatureAutoencoder',
    teacher=dict(
        cfg='{{ fileDirname }}/ie_kd_teacher_resnet56_cifar10.py',
        checkpoint='cache://ie_kd_teacher_resnet56_cifar10'),
    tap='backbone.layer3',
    channels=64,
    factor_channels=32)

param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0)
train_cfg = dict(max_epochs=30)

default_hooks = dict(keep=dict(name='ie_kd_autoencoder_resnet56_cifar10'))
