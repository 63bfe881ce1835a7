# Five noisy solids of 256 points: 1,600 clouds to train on, 1,000 to validate,
# made when they are first asked for.
_base_ = './poem_pointnet_modelnet40.py'

model = dict(
    backbone=dict(
        with_tnet=False, local_channels=(64, ), channels=(64, 128, 256)),
    neck=dict(in_channels=256, channels=(128, )),
    head=dict(num_classes=5, in_channels=128))

load = [
    dict(type='mmcompress.LoadPoints', num_points=256),
    dict(type='mmcompress.NormalizePoints'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='mmcompress.Rendered',
        task='point_clouds',
        dataset=dict(
            type='mmcompress.ModelNet40', ann_file='modelnet40_train.txt'),
        pipeline=[
            *load,
            dict(type='mmcompress.RotatePoints', up='z'),
            dict(type='mmcompress.JitterPoints'), *_base_.pack
        ]))
val_dataloader = dict(
    batch_size=250,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type='mmcompress.Rendered',
        task='point_clouds',
        dataset=dict(
            type='mmcompress.ModelNet40', ann_file='modelnet40_test.txt'),
        pipeline=[*load, *_base_.pack]))
test_dataloader = val_dataloader

# 400 steps
train_cfg = dict(max_epochs=8, val_interval=8)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(T_max=8, convert_to_iter_based=True)
default_hooks = dict(
    logger=dict(interval=50), checkpoint=dict(interval=8, max_keep_ckpts=1))
randomness = dict(seed=0)
