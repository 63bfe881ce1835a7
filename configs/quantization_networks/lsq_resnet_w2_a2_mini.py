# the same, and activations
_base_ = './lsq_resnet_w2_mini.py'

model = dict(
    steps=[dict(_base_.model.steps[0], activation=dict(type='LSQ', bits=2))])

load_from = 'cache://lsq_resnet_w2_mini'

default_hooks = dict(keep=dict(name=None))
