_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='./ie_kd_autoencoder_resnet34_in1k.py',
        checkpoint='cache://ie_kd_autoencoder_resnet34_in1k'),
    losses=dict(
        loss_ie=dict(
            type='mmcompress.IEKDLoss',
            student='backbone.layer4',
            teacher='autoencoder.encoder',
            student_channels=512,
            factor_channels=256)))
