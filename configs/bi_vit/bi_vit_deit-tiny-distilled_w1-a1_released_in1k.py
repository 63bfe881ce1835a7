# as the released code has it: no ranking, and maps by ActBi, which makes each
# of them one number
_base_ = './bi_vit_deit-tiny-distilled_w1-a1_in1k.py'

model = dict(
    student=dict(steps=[
        dict(_base_.model.student.steps[0], softmax=dict(type='ActBi'))
    ]),
    losses=dict(_delete_=True, loss_hard=_base_.model.losses.loss_hard))
