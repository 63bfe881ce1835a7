# a small Mask R-CNN alone; tests what mgd_mask-rcnn_mini.py trains
_base_ = '../ida_det/_base_/ida_det_faster-rcnn_mini.py'

model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64]),
    roi_head=dict(
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=10, sampling_ratio=1),
            out_channels=64,
            featmap_strides=[4, 8, 16, 32],
            finest_scale=28),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=2,
            in_channels=64,
            conv_out_channels=32,
            num_classes=10,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True))),
    train_cfg=dict(rcnn=dict(mask_size=20)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))

train_dataloader = dict(
    dataset=dict(pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
        dict(type='PackDetInputs')
    ]))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator

# masks make a step longer
train_cfg = dict(max_epochs=3, val_interval=3)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=3, T_max=3)]
