# not of the paper: RTMW, whose neck has two levels
_base_ = [
    'mmpose::wholebody_2d_keypoint/rtmpose/cocktail14/rtmw-m_8xb1024-270e_cocktail14-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

teacher_cfg = 'mmpose::wholebody_2d_keypoint/rtmpose/cocktail14/rtmw-l_8xb1024-270e_cocktail14-256x192.py'  # noqa: E501
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/projects/rtmw/rtmw-dw-x-l_simcc-cocktail14_270e-256x192-20231122.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg=teacher_cfg, checkpoint=teacher_ckpt),
    losses=dict(
        loss_fea=dict(
            _base_.feature_loss, student='neck[1]', teacher='neck[1]',
            student_channels=768, teacher_channels=1024),
        loss_fea_fine=dict(
            _base_.feature_loss, student='neck[0]', teacher='neck[0]',
            student_channels=384, teacher_channels=512),
        loss_logit=_base_.logit_loss))  # yapf: disable

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
