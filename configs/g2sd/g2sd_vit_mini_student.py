# a small vision transformer alone, from scratch
_base_ = '../vitkd/vitkd_deit_mini_student.py'

model = dict(
    backbone=dict(
        arch=dict(embed_dims=48, num_heads=2, feedforward_channels=96),
        # the masked autoencoders' patches, which don't overlap
        patch_cfg=dict(_delete_=True, stride=4)),
    head=dict(in_channels=48))

optim_wrapper = dict(optimizer=dict(lr=0.002))
