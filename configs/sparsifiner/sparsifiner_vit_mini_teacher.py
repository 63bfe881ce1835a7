# a plain vision transformer of 65 tokens, 64 wide
_base_ = '../vitkd/vitkd_deit_mini_student.py'

model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=64, num_layers=5, num_heads=4,
            feedforward_channels=128)),
    head=dict(in_channels=64))

# both stages find it as `checkpoint='cache://sparsifiner_vit_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook',
        name='sparsifiner_vit_mini_teacher'))
