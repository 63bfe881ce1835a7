_base_ = [
    'mmpretrain::shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py',
    '../_base_/runtime.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layers.2', logits='head'),
            channel=464)))
