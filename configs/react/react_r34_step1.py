_base_ = './react_r18_step1.py'

model = dict(student=dict(backbone=dict(depth=34)))
