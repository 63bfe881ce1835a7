# weights -1, 0 and 1; the first and the last layer stay float
_base_ = '../kd/kd_resnet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='QNWeight', levels=[-1, 0, 1]),
            first_last=dict(weight=None, activation=None))
    ])

load_from = 'cache://kd_resnet_mini_teacher'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(
    optimizer=dict(lr=0.002, weight_decay=0.),
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
param_scheduler = dict(end=3)

# 474 in the end, after 237 steps
default_hooks = dict(
    temperature=dict(
        type='mmcompress.TemperatureHook', step_w=2, interval=1),
    # the second phase finds it as
    # `cache://quantization_networks_resnet_w-ternary_mini`
    keep=dict(name='quantization_networks_resnet_w-ternary_mini'))
