_base_ = './q_vit_swin-tiny_w4-a4_in1k.py'

model = dict(
    student=dict(steps=[
        dict(
            _base_.model.student.steps[0],
            weight=dict(type='LSQ', bits=3),
            activation=dict(type='LSQ', bits=3),
            attention=dict(type='LSQ', bits=3))
    ]))
