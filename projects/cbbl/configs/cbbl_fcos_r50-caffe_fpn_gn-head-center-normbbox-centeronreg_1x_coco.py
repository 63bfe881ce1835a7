_base_ = [
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py',  # noqa: E501
    'mmcompress::_base_/runtime.py'
]

# a list replaces that of the base, so what runtime.py imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'cbbl'], allow_failed_imports=False)

# alpha reaches all but the last level's regress_ranges, in strides
model = dict(
    bbox_head=dict(
        type='mmcompress.TwoHotFCOSHead',
        loss_bbox=dict(
            _delete_=True,
            type='mmcompress.TwoHotLocalizationLoss',
            alpha=8.0,
            n=16,
            beta=None,
            one_sided=True,
            lambda_um=0.5)))
