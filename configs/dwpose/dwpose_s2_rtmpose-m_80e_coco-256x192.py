_base_ = './dwpose_s1_rtmpose-m_rtmpose-l_420e_coco-256x192.py'

# what the first stage trained: its head teaches, the rest is frozen
teacher_ckpt = 'work_dirs/dwpose_s1_rtmpose-m_rtmpose-l_420e_coco-256x192/epoch_420.pth'  # noqa: E501

model = dict(
    head_only=True,
    teacher=dict(
        _delete_=True, cfg=_base_.model.student, checkpoint=teacher_ckpt),
    losses=dict(
        _delete_=True,
        loss_logit=dict(_base_.logit_loss, weight=1.0, schedule=None)))

# the schedule of the base config, for fewer epochs
train_cfg = dict(max_epochs=80)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, begin=40, end=80, T_max=40)]
custom_hooks = [
    dict(hook, switch_epoch=50) if 'switch_epoch' in hook else hook
    for hook in _base_.custom_hooks
]
