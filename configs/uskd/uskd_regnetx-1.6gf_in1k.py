_base_ = [
    'mmpretrain::regnet/regnetx-1.6gf_8xb128_in1k.py', '../_base_/hooks.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layer3', logits='head'),
            channel=408)))

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
