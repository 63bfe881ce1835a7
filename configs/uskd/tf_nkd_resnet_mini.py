_base_ = '../kd/kd_resnet_mini_student.py'

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    losses=dict(loss_tf_nkd=dict(type='mmcompress.TfNKDLoss', student='head')))
