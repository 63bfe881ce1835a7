_base_ = './dwpose_s1_mini.py'

# what the first stage trained: its head teaches, the rest is frozen
model = dict(
    head_only=True,
    teacher=dict(
        _delete_=True,
        cfg=_base_.model.student,
        checkpoint='work_dirs/dwpose_s1_mini/epoch_8.pth'),
    losses=dict(
        _delete_=True,
        loss_logit=dict(
            type='mmcompress.DWPoseLogitLoss',
            student='head',
            teacher='head',
            weight=1.0)))

train_cfg = dict(max_epochs=5, val_interval=5)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=5, T_max=5)]
default_hooks = dict(checkpoint=dict(interval=5))
