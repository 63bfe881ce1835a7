_base_ = './rebnn_r18.py'

model = dict(student=dict(backbone=dict(depth=34)))
load_from = 'work_dirs/react_r34_step1/epoch_128.pth'
