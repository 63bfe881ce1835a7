# weights -4, -2, -1, 0, 1, 2, 4; the stem and the predictions stay float
_base_ = '../fgd/fgd_retinanet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            # no norm follows the convolutions of the neck
            weight=dict(
                type='QNWeight', levels=[-4, -2, -1, 0, 1, 2, 4], init='fit'),
            first_last=dict(weight=None, activation=None))
    ])

load_from = 'cache://fgd_retinanet_mini_teacher'

train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(
    optimizer=dict(lr=0.0005),
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=2, T_max=2)

# 500 in the end, after 250 steps
default_hooks = dict(
    temperature=dict(type='mmcompress.TemperatureHook', step_w=2, interval=1),
    keep=dict(name='quantization_networks_retinanet_w-pow2_mini'))
