# PointNet on the 1,024 first points of ModelNet40's clouds, without normals.
_base_ = ['mmpretrain::_base_/default_runtime.py', '../../_base_/runtime.py']

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='mmcompress.PointCloudPreprocessor'),
    backbone=dict(type='mmcompress.PointNet'),
    neck=dict(type='mmcompress.PointNetNeck'),
    head=dict(
        type='LinearClsHead',
        num_classes=40,
        in_channels=256,
        loss=dict(type='CrossEntropyLoss')))

pack = [
    dict(type='Transpose', keys=['points'], order=[1, 0]),
    dict(type='ToTensor', keys=['points']),
    dict(type='PackInputs', input_key='points'),
]
# or train_files.txt and test_files.txt of modelnet40_ply_hdf5_2048
data_root = 'data/modelnet40_normal_resampled/'
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.ModelNet40',
        data_root=data_root,
        ann_file='modelnet40_train.txt',
        pipeline=[
            dict(type='mmcompress.LoadPoints', num_points=1024),
            dict(type='mmcompress.NormalizePoints'),
            dict(type='mmcompress.RotatePoints', up='y'),
            dict(type='mmcompress.JitterPoints', sigma=0.01, clip=0.05), *pack
        ]))
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.ModelNet40',
        data_root=data_root,
        ann_file='modelnet40_test.txt',
        pipeline=[
            dict(type='mmcompress.LoadPoints', num_points=1024),
            dict(type='mmcompress.NormalizePoints'), *pack
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='Adam', lr=0.001))
param_scheduler = dict(type='CosineAnnealingLR', T_max=200)
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=3))
