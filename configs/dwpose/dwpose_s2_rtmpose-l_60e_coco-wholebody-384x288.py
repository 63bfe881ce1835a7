_base_ = './dwpose_s1_rtmpose-l_rtmpose-x_270e_coco-wholebody-384x288.py'

# what the first stage trained: its head teaches, the rest is frozen
teacher_ckpt = 'work_dirs/dwpose_s1_rtmpose-l_rtmpose-x_270e_coco-wholebody-384x288/epoch_270.pth'  # noqa: E501

model = dict(
    head_only=True,
    teacher=dict(
        _delete_=True, cfg=_base_.model.student, checkpoint=teacher_ckpt),
    losses=dict(
        _delete_=True,
        loss_logit=dict(_base_.logit_loss, weight=1.0, schedule=None)))

# the schedule of the base config, for fewer epochs
train_cfg = dict(max_epochs=60)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, begin=30, end=60, T_max=30)]
custom_hooks = [
    dict(hook, switch_epoch=30) if 'switch_epoch' in hook else hook
    for hook in _base_.custom_hooks
]
