# first stage: an autoencoder learns the teacher's last feature
_base_ = '../kd/kd_resnet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.FeatureAutoencoder',
    teacher=dict(
        cfg='{{ fileDirname }}/../kd/kd_resnet_mini_teacher.py',
        checkpoint='cache://kd_resnet_mini_teacher'),
    tap='backbone.layer3',
    channels=128,
    factor_channels=32)

train_cfg = dict(max_epochs=3, val_interval=3)
param_scheduler = dict(end=3)

default_hooks = dict(keep=dict(name='ie_kd_resnet_mini_autoencoder'))
