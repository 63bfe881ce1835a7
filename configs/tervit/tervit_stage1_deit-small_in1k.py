# first stage: weights and activations of 8 bits
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

weight = dict(type='Dynamic', bits=8, clip=2.5)
activation = dict(type='Dynamic', bits=8)

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=weight,
            activation=activation,
            first_last=dict(weight=weight, activation=activation))
    ])

# top-1 80.69
load_from = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

# a quarter of all epochs
train_cfg = dict(max_epochs=75)
optim_wrapper = dict(optimizer=dict(weight_decay=0.))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=5, end=75)
]
