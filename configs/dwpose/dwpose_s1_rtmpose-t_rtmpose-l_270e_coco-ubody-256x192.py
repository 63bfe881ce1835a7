_base_ = [
    'mmpose::wholebody_2d_keypoint/rtmpose/ubody/rtmpose-t_8xb64-270e_coco-ubody-wholebody-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

teacher_cfg = 'mmpose::wholebody_2d_keypoint/rtmpose/ubody/rtmpose-l_8xb64-270e_coco-ubody-wholebody-256x192.py'  # noqa: E501
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-l_ucoco_256x192-95bb32f5_20230822.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg=teacher_cfg, checkpoint=teacher_ckpt),
    losses=dict(
        loss_fea=dict(
            _base_.feature_loss, student_channels=384, teacher_channels=1024),
        loss_logit=_base_.logit_loss))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))
custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks

# the base config joins its paths with data/UBody
val_dataloader = dict(
    dataset=dict(data_root='', data_prefix=dict(img='data/coco/val2017/')))
test_dataloader = val_dataloader
