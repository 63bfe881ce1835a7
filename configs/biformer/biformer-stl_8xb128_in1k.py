# the layout of Swin-T, with routed attention in the place of windows
_base_ = './biformer-tiny_8xb128_in1k.py'

model = dict(backbone=dict(arch='stl'), head=dict(in_channels=768))

default_hooks = dict(keep=dict(name='biformer-stl'))
