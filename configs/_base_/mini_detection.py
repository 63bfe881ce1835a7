# Handwritten digits on photos: 1,000 images to train on, 200 to validate,
# 160 x 128 pixels, rendered when they are first asked for.
_base_ = './mini_training.py'

default_scope = 'mmdet'

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.Rendered',
        dataset=dict(
            type='CocoDataset',
            ann_file='annotations/train.json',
            data_prefix=dict(img='JPEGImages/'),
            filter_cfg=dict(filter_empty_gt=False)),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(160, 128), keep_ratio=True),
            # boxes without area go, images without boxes stay
            dict(
                type='FilterAnnotations',
                min_gt_bbox_wh=(1, 1),
                keep_empty=False),
            dict(type='PackDetInputs')
        ]))
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.Rendered',
        dataset=dict(
            type='CocoDataset',
            ann_file='annotations/val.json',
            data_prefix=dict(img='JPEGImages/'),
            test_mode=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(160, 128), keep_ratio=True),
            # with `instances`: CocoMetric takes the ground truth from them
            dict(
                type='PackDetInputs',
                meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                           'scale_factor', 'instances'))
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', metric='bbox')
test_evaluator = val_evaluator

default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
visualizer = dict(
    type='DetLocalVisualizer',
    vis_backends=_base_.vis_backends,
    name='visualizer')
