# ResNet-56 alone, with the recipe of DisWOT's students
_base_ = 'mmpretrain::resnet/resnet50_8xb16_cifar100.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'diswot'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmcompress.StageResNetCIFAR',
        stage_blocks=(9, 9, 9),
        base_channels=16,
        stem_channels=16),
    head=dict(in_channels=64))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = dict(
    _delete_=True, type='MultiStepLR', milestones=[150, 180, 210], gamma=0.1)
train_cfg = dict(max_epochs=240)

# students find it as `checkpoint='cache://diswot_s1_teacher_cifar100'`
default_hooks = dict(
    mmcompress=dict(type='mmcompress.StandardHooks'),
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='diswot_s1_teacher_cifar100'))
