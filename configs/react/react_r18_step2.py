# second step: weights are 1-bit as well, no weight decay
_base_ = './react_r18_step1.py'

model = dict(student=dict(backbone=dict(conv_cfg=dict(binary_weight=True))))

load_from = 'work_dirs/react_r18_step1/epoch_128.pth'
optim_wrapper = dict(optimizer=dict(weight_decay=0.0))
