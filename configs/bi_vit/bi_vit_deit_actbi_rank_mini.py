# the teacher's order in maps that are as in the released code
_base_ = './bi_vit_deit_mini.py'

model = dict(
    student=dict(steps=[
        dict(_base_.model.student.steps[0], softmax=dict(type='ActBi'))
    ]))
