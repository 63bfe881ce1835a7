_base_ = [
    'mmpose::wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-l_8xb32-270e_coco-wholebody-384x288.py',  # noqa: E501
    './_base_/stage1.py'
]

teacher_cfg = 'mmpose::wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-x_8xb32-270e_coco-wholebody-384x288.py'  # noqa: E501
# whole-body AP 65.3
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-x_simcc-coco-wholebody_pt-body7_270e-384x288-401dfc90_20230629.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg=teacher_cfg, checkpoint=teacher_ckpt),
    losses=dict(
        loss_fea=dict(
            _base_.feature_loss, student_channels=1024, teacher_channels=1280),
        loss_logit=_base_.logit_loss))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))
custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
