# The student of FGD's FCOS pair, which mmdet has with other settings. Unlike
# its "center-normbbox-centeronreg-giou" FCOS: centerness stays on the branch
# of the classes, two scales, 24 epochs.
_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py',
    '../_base_/runtime.py'
]

model = dict(
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675]),
    backbone=dict(
        init_cfg=dict(checkpoint='open-mmlab://detectron2/resnet50_caffe')),
    bbox_head=dict(
        norm_on_bbox=True,
        centerness_on_reg=False,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type='GIoULoss')),
    test_cfg=dict(nms=dict(iou_threshold=0.6)))

param_scheduler = [
    dict(
        type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        begin=0,
        end=24,
        by_epoch=True,
        milestones=[16, 22],
        gamma=0.1)
]
