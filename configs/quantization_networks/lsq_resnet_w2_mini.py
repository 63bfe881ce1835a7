# what Quantization Networks is compared with: LSQ of 2 bits, the same training
_base_ = '../kd/kd_resnet_mini_teacher.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='LSQ', bits=2),
            first_last=dict(weight=None, activation=None))
    ])

load_from = 'cache://kd_resnet_mini_teacher'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(
    optimizer=dict(lr=0.002, weight_decay=0.),
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
param_scheduler = dict(end=3)

# where the second phase, which quantizes activations, finds it
default_hooks = dict(
    checkpoint=dict(interval=3), keep=dict(name='lsq_resnet_w2_mini'))
