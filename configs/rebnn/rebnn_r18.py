# starts from ReActNet's first step, as in the paper
_base_ = '../react/react_r18_step2.py'

model = dict(
    student=dict(backbone=dict(conv_cfg=dict(type='mmcompress.ReBNNConv2d'))))

train_cfg = dict(max_epochs=256)
param_scheduler = dict(end=256)
optim_wrapper = dict(optimizer=dict(lr=0.001))
