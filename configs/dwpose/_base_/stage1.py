# The losses of the first stage, and the hooks that every config needs
_base_ = '../../_base_/hooks.py'

# both fade out: 1 in the first epoch, 1 / max_epochs in the last
fade = dict(
    type='mmcompress.PiecewiseLinear',
    points=[(0, 1.0), (1, 0.0)],
    by_epoch=True)
feature_loss = dict(
    type='mmcompress.DWPoseFeatureLoss',
    student='backbone[-1]',
    teacher='backbone[-1]',
    alpha_fea=7e-5,
    schedule=fade)
logit_loss = dict(
    type='mmcompress.DWPoseLogitLoss',
    student='head',
    teacher='head',
    weight=0.1,
    schedule=fade)
