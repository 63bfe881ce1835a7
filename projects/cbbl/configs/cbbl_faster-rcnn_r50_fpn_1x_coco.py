_base_ = [
    'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmcompress::_base_/runtime.py'
]

# a list replaces that of the base, so what runtime.py imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'cbbl'], allow_failed_imports=False)

model = dict(
    rpn_head=dict(
        type='mmcompress.TwoHotRPNHead',
        loss_bbox=dict(
            _delete_=True,
            type='mmcompress.TwoHotLocalizationLoss',
            alpha=2.0,
            n=10,
            beta=1.0,
            lambda_um=0.5)),
    roi_head=dict(
        bbox_head=dict(
            type='mmcompress.TwoHotBBoxHead',
            loss_bbox=dict(
                _delete_=True,
                type='mmcompress.TwoHotLocalizationLoss',
                alpha=5.0,
                n=5,
                beta=1.0,
                lambda_um=0.5))))
