# The mini CLIP without merging: what CrossGET is put on.
_base_ = '../_base_/mini_clip.py'

default_hooks = dict(
    cache_teacher=dict(
        type='mmcompress.CacheTeacherHook', name='crossget_clip_mini_dense'))
