_base_ = './quantization_networks_resnet18_w-ternary_in1k.py'

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        weight=dict(type='QNWeight', levels=[-2, -1, 0, 1, 2]))
])
