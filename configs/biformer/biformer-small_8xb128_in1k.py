_base_ = './biformer-tiny_8xb128_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.15))

# others find its backbone as `checkpoint='cache://biformer-small'`
default_hooks = dict(keep=dict(name='biformer-small'))
