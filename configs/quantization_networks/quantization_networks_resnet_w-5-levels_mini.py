_base_ = './quantization_networks_resnet_w-ternary_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='QNWeight', levels=[-2, -1, 0, 1, 2]))
])

default_hooks = dict(
    keep=dict(name='quantization_networks_resnet_w-5-levels_mini'))
