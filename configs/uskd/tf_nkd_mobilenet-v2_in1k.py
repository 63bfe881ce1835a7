_base_ = [
    'mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
    '../_base_/runtime.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(loss_tf_nkd=dict(type='mmcompress.TfNKDLoss', student='head')))
