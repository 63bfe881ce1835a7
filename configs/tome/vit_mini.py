# a plain vision transformer for the mini data: 64 patches and a class token
_base_ = '../vitkd/vitkd_deit_mini_student.py'

model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=64, num_layers=5, num_heads=4,
            feedforward_channels=128)),
    head=dict(in_channels=64))

# at a lower rate: it is wider
optim_wrapper = dict(optimizer=dict(lr=0.002))

# others find it as `checkpoint='cache://vit_mini'`
default_hooks = dict(
    keep=dict(type='mmcompress.CacheTeacherHook', name='vit_mini'))
