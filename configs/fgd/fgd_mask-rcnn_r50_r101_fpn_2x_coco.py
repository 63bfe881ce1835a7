_base_ = [
    'mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py', '../_base_/runtime.py'
]

# box AP 40.8, mask AP 36.6
teacher_ckpt = 'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r101_fpn_2x_coco/mask_rcnn_r101_fpn_2x_coco_bbox_mAP-0.408__segm_mAP-0.366_20200505_071027-14b391c7.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='mmdet::mask_rcnn/mask-rcnn_r101_fpn_2x_coco.py',
        checkpoint=teacher_ckpt),
    init_student=['neck', 'rpn_head', 'roi_head'],
    losses=dict(
        loss_fgd=dict(
            type='mmcompress.FGDLoss', student='neck[0:4]', teacher='neck[0:4]',
            student_channels=256, teacher_channels=256, num_levels=4,
            temp=0.5, alpha_fgd=5e-5, beta_fgd=2.5e-5,
            gamma_fgd=5e-5, lambda_fgd=5e-7)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
