_base_ = './q_detr_detr_r50_4-4-8_stage1_coco.py'

quantize = _base_.quantize
quantize.weight.bits = quantize.activation.bits = 3

model = dict(steps=[quantize])
