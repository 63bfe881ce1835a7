_base_ = [
    'mmpose::wholebody_2d_keypoint/rtmpose/ubody/rtmpose-x_8xb64-270e_coco-ubody-wholebody-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

# no first stage: a model trained without distillation teaches
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-x_ucoco_256x192-05f5bcb7_20230822.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    head_only=True,
    student=_base_.model,
    teacher=dict(cfg=_base_.model, checkpoint=teacher_ckpt),
    losses=dict(loss_logit=dict(_base_.logit_loss, weight=1.0, schedule=None)))

# the schedule of the base config, for fewer epochs
train_cfg = dict(max_epochs=60)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, begin=30, end=60, T_max=30)]
custom_hooks = [
    dict(hook, switch_epoch=30) if 'switch_epoch' in hook else hook
    for hook in _base_.custom_hooks + _base_.mmcompress_hooks
]
optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))

# the base config joins its paths with data/UBody
val_dataloader = dict(
    dataset=dict(data_root='', data_prefix=dict(img='data/coco/val2017/')))
test_dataloader = val_dataloader
