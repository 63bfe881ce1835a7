_base_ = '../_base_/resnet18_8xb16_cifar100.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layer3', logits='head'),
            channel=256,
            num_classes=100,
            alpha=0.1,
            mu=0.1)))
