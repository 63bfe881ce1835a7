# mmpretrain's, with every norm in its place; loads the same checkpoints
_base_ = 'mmpretrain::deit3/deit3-base-p16_64xb64_in1k.py'

model = dict(backbone=dict(type='mmcompress.DeiT3'))
