# ImageNet pretraining of the 1-bit backbone, ReActNet's recipe. First step:
# 1-bit activations, real weights
_base_ = '../react/react_r18_step1.py'

model = dict(
    student=dict(
        backbone=dict(
            block='ida_det', conv_cfg=dict(type='mmcompress.IDaDetConv2d'))))
