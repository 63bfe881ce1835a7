_base_ = ['mmdet::solo/solo_r50_fpn_1x_coco.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/mgd_teacher_solo_r101_fpn_3x_coco.py',
        checkpoint='cache://mgd_teacher_solo_r101_fpn_3x_coco'),
    init_student=['neck', 'mask_head'],
    losses=dict(
        loss_mgd=dict(
            type='mmcompress.MGDLoss', student='neck[0:4]', teacher='neck[0:4]',
            student_channels=256, teacher_channels=256, num_levels=4,
            alpha_mgd=2e-5, lambda_mgd=0.65)))  # yapf: disable

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
