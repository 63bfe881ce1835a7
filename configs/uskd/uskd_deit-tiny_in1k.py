_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layers.5', logits='head'),
            channel=192,
            pool='cls')))
