_base_ = './cwd_pspnet_mini_student.py'

model = dict(
    backbone=dict(base_channels=24, stem_channels=24),
    decode_head=dict(in_channels=192, channels=64))

# students find it as `checkpoint='cache://cwd_pspnet_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='cwd_pspnet_mini_teacher'))
