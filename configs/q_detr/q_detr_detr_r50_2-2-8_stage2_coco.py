_base_ = './q_detr_detr_r50_4-4-8_stage2_coco.py'

quantize = _base_.quantize
quantize.weight.bits = quantize.activation.bits = 2

model = dict(student=dict(steps=[quantize]))

load_from = 'work_dirs/q_detr_detr_r50_2-2-8_stage1_coco/epoch_150.pth'
