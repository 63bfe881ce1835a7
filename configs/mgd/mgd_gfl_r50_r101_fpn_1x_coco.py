_base_ = ['mmdet::gfl/gfl_r50_fpn_1x_coco.py', '../_base_/runtime.py']

# box AP 44.7
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_r101_fpn_mstrain_2x_coco/gfl_r101_fpn_mstrain_2x_coco_20200629_200126-dd12f847.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', checkpoint=teacher_ckpt),
    init_student=['neck', 'bbox_head'],
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss', student='neck', teacher='neck',
            student_channels=256, teacher_channels=256, num_levels=5,
            alpha_mgd=2e-5, lambda_mgd=0.65)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
