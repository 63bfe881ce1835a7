_base_ = './q_vit_deit-small-distilled_w4-a4_in1k.py'

model = dict(
    student=dict(steps=[
        dict(
            _base_.model.student.steps[0],
            weight=dict(type='LSQ', bits=2),
            activation=dict(type='LSQ', bits=2),
            attention=dict(type='LSQ', bits=2))
    ]))
