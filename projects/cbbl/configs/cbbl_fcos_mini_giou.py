# a small FCOS with its own loss of boxes: what the others are compared with
_base_ = 'mmcompress::fgd/fgd_retinanet_mini_student.py'

model = dict(
    type='FCOS',
    bbox_head=dict(
        _delete_=True,
        type='FCOSHead',
        num_classes=10,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        strides=[8, 16, 32],
        regress_ranges=((-1, 24), (24, 48), (48, 1e8)),
        norm_cfg=dict(type='GN', num_groups=8),
        norm_on_bbox=True,
        center_sampling=True,
        centerness_on_reg=True,
        loss_bbox=dict(type='GIoULoss')),
    train_cfg=None)
