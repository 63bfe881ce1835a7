_base_ = './fgd_student_fcos_r50_fpn_ms-2x_coco.py'

# box AP 40.8
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
        checkpoint=teacher_ckpt),
    init_student=['neck', 'bbox_head'],
    losses=dict(
        loss_fgd=dict(
            type='mmcompress.FGDLoss', student='neck', teacher='neck',
            student_channels=256, teacher_channels=256, num_levels=5,
            temp=0.8, alpha_fgd=1.6e-3, beta_fgd=8e-4,
            gamma_fgd=8e-4, lambda_fgd=8e-6)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
