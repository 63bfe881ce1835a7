_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(
        loss_uskd=dict(
            type='mmcompress.USKDLoss',
            student=dict(feature='backbone.layer2', logits='head'),
            channel=16,
            num_classes=10,
            # tuned on the mini data
            alpha=0.3)))
