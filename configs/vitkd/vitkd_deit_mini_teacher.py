_base_ = './vitkd_deit_mini_student.py'

model = dict(
    backbone=dict(
        type='mmcompress.DeiT3',
        arch=dict(
            embed_dims=64, num_layers=5, num_heads=4,
            feedforward_channels=128),
        # from 1e-5 they would take longer than this training
        use_layer_scale=False),
    head=dict(in_channels=64))

# longer, and at a lower rate: it is wider
train_cfg = dict(max_epochs=15, val_interval=15)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=15, T_max=15)

# students find it as `checkpoint='cache://vitkd_deit_mini_teacher'`
default_hooks = dict(
    checkpoint=dict(interval=15),
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='vitkd_deit_mini_teacher'))
