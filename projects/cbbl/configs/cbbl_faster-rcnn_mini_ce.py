# the classification of coordinates alone, lambda 0, in both stages
_base_ = './cbbl_faster-rcnn_mini_l1.py'

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
            lambda_um=0.0)),
    roi_head=dict(
        bbox_head=dict(
            type='mmcompress.TwoHotBBoxHead',
            loss_bbox=dict(
                _delete_=True,
                type='mmcompress.TwoHotLocalizationLoss',
                alpha=5.0,
                n=5,
                beta=1.0,
                lambda_um=0.0))))
