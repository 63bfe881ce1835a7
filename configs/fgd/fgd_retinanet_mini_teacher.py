_base_ = './fgd_retinanet_mini_student.py'

model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[64, 128, 256]))

train_cfg = dict(max_epochs=8, val_interval=8)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=8, T_max=8)

# students find it as `checkpoint='cache://fgd_retinanet_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='fgd_retinanet_mini_teacher'))
