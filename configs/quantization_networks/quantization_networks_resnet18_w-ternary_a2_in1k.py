# second phase: activations are 0 to 3, weights go on from the first phase
_base_ = './quantization_networks_resnet18_w-ternary_in1k.py'

model = dict(steps=[
    dict(_base_.model.steps[0], activation=dict(type='QNActivation', bits=2))
])

load_from = 'work_dirs/quantization_networks_resnet18_w-ternary_in1k/epoch_35.pth'  # noqa: E501

# 0.001 for the scales of activations, which are new
optim_wrapper = dict(
    optimizer=dict(lr=0.0001, weight_decay=1e-5),
    clip_grad=dict(max_norm=20),
    paramwise_cfg=dict(
        custom_keys=dict(input_quant=dict(lr_mult=10., decay_mult=0.))))
param_scheduler = dict(
    _delete_=True, type='StepLR', by_epoch=True, step_size=25, gamma=0.1)

default_hooks = dict(temperature=dict(step_w=10, step_a=10))
