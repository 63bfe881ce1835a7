_base_ = './q_vit_deit_w2_a2_mini.py'

model = dict(
    student=dict(steps=[
        dict(
            _base_.model.student.steps[0],
            weight=dict(type='LSQ', bits=4),
            activation=dict(type='LSQ', bits=4),
            attention=dict(type='LSQ', bits=4))
    ]))
