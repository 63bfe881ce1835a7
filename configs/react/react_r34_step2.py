_base_ = './react_r18_step2.py'

model = dict(student=dict(backbone=dict(depth=34)))
load_from = 'work_dirs/react_r34_step1/epoch_128.pth'
