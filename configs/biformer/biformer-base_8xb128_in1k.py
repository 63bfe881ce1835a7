_base_ = './biformer-tiny_8xb128_in1k.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.4), head=dict(in_channels=768))

# others find its backbone as `checkpoint='cache://biformer-base'`
default_hooks = dict(keep=dict(name='biformer-base'))
