# what Quantization Networks is compared with: LSQ, of the same bits and steps
_base_ = './quantization_networks_resnet_w-ternary_mini.py'

model = dict(steps=[
    dict(_base_.model.steps[0], weight=dict(type='LSQ', bits=2))
])

default_hooks = dict(temperature=None, keep=dict(name='lsq_resnet_w2_mini'))
