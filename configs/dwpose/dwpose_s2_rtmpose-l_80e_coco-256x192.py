_base_ = [
    'mmpose::body_2d_keypoint/rtmpose/coco/rtmpose-l_8xb256-420e_coco-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

# no first stage: a model trained without distillation teaches
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-l_simcc-coco_pt-aic-coco_420e-256x192-1352a4d2_20230127.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    head_only=True,
    student=_base_.model,
    teacher=dict(cfg=_base_.model, checkpoint=teacher_ckpt),
    losses=dict(loss_logit=dict(_base_.logit_loss, weight=1.0, schedule=None)))

# the schedule of the base config, for fewer epochs
train_cfg = dict(max_epochs=80)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, begin=40, end=80, T_max=40)]
custom_hooks = [
    dict(hook, switch_epoch=50) if 'switch_epoch' in hook else hook
    for hook in _base_.custom_hooks + _base_.mmcompress_hooks
]
optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))
