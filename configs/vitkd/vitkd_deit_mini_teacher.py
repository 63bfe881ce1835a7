_base_ = './vitkd_deit_mini_student.py'

model = dict(
    backbone=dict(
        type='mmcompress.DeiT3',
        arch=dict(
            embed_dims=64, num_layers=5, num_heads=4,
            feedforward_channels=128)),
    head=dict(in_channels=64))

# students find it as `checkpoint='cache://vitkd_deit_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='vitkd_deit_mini_teacher'))
