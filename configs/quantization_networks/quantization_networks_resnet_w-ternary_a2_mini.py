# second phase: activations are 0 to 3, weights go on from the first phase
_base_ = './quantization_networks_resnet_w-ternary_mini.py'

model = dict(steps=[
    dict(_base_.model.steps[0], activation=dict(type='QNActivation', bits=2))
])

load_from = 'cache://quantization_networks_resnet_w-ternary_mini'

default_hooks = dict(temperature=dict(step_a=0.2), keep=dict(name=None))
