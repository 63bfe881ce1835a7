_base_ = '../_base_/mobilenet-v1_8xb32_in1k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layer4', logits='head'),
            channel=512)))
