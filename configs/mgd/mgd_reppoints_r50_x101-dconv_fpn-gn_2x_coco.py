_base_ = [
    'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
    '../_base_/runtime.py'
]

# before the GroupNorm of the neck, as in the official code
taps = [
    'neck.fpn_convs.0.conv', 'neck.fpn_convs.1.conv', 'neck.fpn_convs.2.conv',
    'neck.fpn_convs.3.conv', 'neck.fpn_convs.4.conv'
]

# box AP 44.2
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/reppoints/reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco/reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck%2Bhead_2x_coco_20200329-f87da1ea.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::reppoints/reppoints-moment_x101-dconv-c3-c5_fpn-gn_head-gn_2x_coco.py',
        checkpoint=teacher_ckpt),
    init_student=['neck', 'bbox_head'],
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss', student=taps, teacher=taps,
            student_channels=256, teacher_channels=256, num_levels=5,
            alpha_mgd=2e-5, lambda_mgd=0.65)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
