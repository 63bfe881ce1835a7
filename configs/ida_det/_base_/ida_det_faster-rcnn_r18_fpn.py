# 1-bit Faster R-CNN: backbone, neck and RPN convolution are 1-bit
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    # starts from the float ResNet-18, whose BN statistics don't fit
    backbone=dict(
        _delete_=True,
        type='mmcompress.BiResNet',
        depth=18,
        frozen_stages=0,
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(
        _delete_=True,
        type='mmcompress.IDaDetFPN',
        in_channels=[64, 128, 256, 512],
        out_channels=256,
        num_outs=5),
    rpn_head=dict(
        type='mmcompress.IDaDetRPNHead',
        loss_cls=dict(loss_weight=5.0),
        loss_bbox=dict(loss_weight=5.0)),
    roi_head=dict(
        bbox_head=dict(
            loss_cls=dict(loss_weight=5.0), loss_bbox=dict(loss_weight=5.0))))
