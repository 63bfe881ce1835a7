_base_ = [
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    '../_base_/runtime.py'
]

# the norm of stage 3 exists only where the stage is returned
_base_.model.backbone.out_indices = (2, 3)

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.norm2', logits='head'),
            channel=384)))
