# to be trained first: it teaches the generic stage
_base_ = '../_base_/mini_mae.py'

# found as `checkpoint='cache://g2sd_mae_mini_teacher'`
default_hooks = dict(
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='g2sd_mae_mini_teacher'))
