_base_ = './q_detr_deformable_detr_mini_da.py'

taps = dict(
    features='decoder.layers.2.cross_attn.output_proj', boxes='bbox_head[1]')

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=_base_.model,
    teacher=dict(
        cfg='{{ fileDirname }}/q_detr_deformable_detr_mini_teacher.py',
        checkpoint='cache://q_detr_deformable_detr_mini_teacher'),
    losses=dict(
        loss_drd=dict(type='mmcompress.DRDLoss', student=taps, teacher=taps)))
