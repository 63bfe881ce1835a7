_base_ = [
    'mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
    '../_base_/runtime.py'
]

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
            student='backbone',
            teacher='autoencoder.encoder',
            student_channels=576,
            factor_channels=256)))
