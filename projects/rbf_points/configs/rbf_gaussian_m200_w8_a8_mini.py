# 8-bit weights and activations of the layers that classify
_base_ = './rbf_gaussian_m200_mini.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            weight=dict(type='LSQ', bits=8),
            activation=dict(type='LSQ', bits=8))
    ])
