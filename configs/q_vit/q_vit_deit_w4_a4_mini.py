_base_ = './q_vit_deit_w2_a2_mini.py'

model = dict(
    student=dict(steps=[
        dict(
            _base_.model.student.steps[0],
            weight=dict(type='LSQ', bits=4),
            activation=dict(type='LSQ', bits=4),
            attention=dict(type='LSQ', bits=4))
    ]))

train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = [dict(_base_.param_scheduler[0], end=2)]
default_hooks = dict(checkpoint=dict(interval=2))
