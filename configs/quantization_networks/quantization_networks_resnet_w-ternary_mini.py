# weights -1, 0 and 1; the first and the last layer stay float
_base_ = './lsq_resnet_w2_mini.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0], weight=dict(type='QNWeight', levels=[-1, 0, 1]))
])

# 474 in the end, after 237 steps
default_hooks = dict(
    temperature=dict(type='mmcompress.TemperatureHook', step_w=2, interval=1),
    keep=dict(name='quantization_networks_resnet_w-ternary_mini'))
