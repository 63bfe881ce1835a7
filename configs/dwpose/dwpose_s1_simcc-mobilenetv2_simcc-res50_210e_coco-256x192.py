# not of the paper: SimCC heads on a MobileNetV2 and a ResNet
_base_ = [
    'mmpose::body_2d_keypoint/simcc/coco/simcc_mobilenetv2_wo-deconv-8xb64-210e_coco-256x192.py',  # noqa: E501
    './_base_/stage1.py'
]

teacher_cfg = 'mmpose::body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192.py'  # noqa: E501
# AP 72.1
teacher_ckpt = 'https://download.openmmlab.com/mmpose/v1/body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192-8e0f5b59_20220919.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(cfg=teacher_cfg, checkpoint=teacher_ckpt),
    losses=dict(
        loss_fea=dict(
            _base_.feature_loss, student_channels=1280, teacher_channels=2048),
        loss_logit=_base_.logit_loss))

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
