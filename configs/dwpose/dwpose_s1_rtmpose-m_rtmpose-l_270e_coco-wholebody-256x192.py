_base_ = [
    'mmpose::wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-m_8xb64-270e_coco-wholebody-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

teacher_cfg = 'mmpose::wholebody_2d_keypoint/rtmpose/coco-wholebody/rtmpose-l_8xb64-270e_coco-wholebody-256x192.py'  # noqa: E501
# whole-body AP 61.1
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/rtmpose-l_simcc-coco-wholebody_pt-aic-coco_270e-256x192-6f206314_20230124.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg=teacher_cfg, checkpoint=teacher_ckpt),
    losses=dict(
        loss_fea=dict(
            _base_.feature_loss, student_channels=768, teacher_channels=1024),
        loss_logit=_base_.logit_loss))

optim_wrapper = dict(clip_grad=dict(max_norm=1.0, norm_type=2))
custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
