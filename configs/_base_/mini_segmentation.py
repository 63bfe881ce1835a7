# Handwritten digits on photos, each pixel with its class: 1,000 images to
# train on, 200 to validate, 128 x 96 pixels, rendered when they are first
# asked for.
_base_ = './mini_training.py'

default_scope = 'mmseg'

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='mmcompress.Rendered',
        task='segmentation',
        dataset=dict(
            type='BaseSegDataset',
            data_prefix=dict(
                img_path='images/train', seg_map_path='labels/train')),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')
        ]))
val_dataloader = dict(
    batch_size=25,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmcompress.Rendered',
        task='segmentation',
        dataset=dict(
            type='BaseSegDataset',
            data_prefix=dict(img_path='images/val', seg_map_path='labels/val'),
            test_mode=True),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs')
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=6, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=0.01, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=6,
        T_max=6,
        convert_to_iter_based=True)
]

default_hooks = dict(visualization=dict(type='SegVisualizationHook'))
visualizer = dict(
    type='SegLocalVisualizer',
    vis_backends=_base_.vis_backends,
    name='visualizer')
