_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py', '../_base_/runtime.py'
]

# box AP 47.3, mask AP 41.1
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/dcn/cascade_mask_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco/cascade_mask_rcnn_x101_32x4d_fpn_dconv_c3-c5_1x_coco-e75f90c8.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::dcn/cascade-mask-rcnn_x101-32x4d-dconv-c3-c5_fpn_1x_coco.py',
        checkpoint=teacher_ckpt),
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss', student='neck[0:4]', teacher='neck[0:4]',
            student_channels=256, teacher_channels=256, num_levels=4,
            alpha_mgd=5e-7, lambda_mgd=0.45)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
