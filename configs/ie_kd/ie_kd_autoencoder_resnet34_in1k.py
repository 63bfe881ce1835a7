# first stage: an autoencoder learns the teacher's last feature
_base_ = ['mmpretrain::resnet/resnet34_8xb32_in1k.py', '../_base_/runtime.py']

# top-1 73.62
teacher_ckpt = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.FeatureAutoencoder',
    teacher=dict(
        cfg='mmpretrain::resnet/resnet34_8xb32_in1k.py',
        checkpoint=teacher_ckpt),
    tap='backbone.layer4',
    channels=512,
    # half as many, as in the CIFAR configs
    factor_channels=256)

param_scheduler = dict(_delete_=True, type='ConstantLR', factor=1.0)
train_cfg = dict(max_epochs=5)

default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='ie_kd_autoencoder_resnet34_in1k'))
