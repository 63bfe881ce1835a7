_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmcompress::_base_/runtime.py'
]

# a list replaces that of the base, so what runtime.py imports is repeated
custom_imports = dict(
    imports=['mmcompress.compat', 'cbbl'], allow_failed_imports=False)

model = dict(
    bbox_head=dict(
        type='mmcompress.TwoHotRetinaHead',
        loss_bbox=dict(
            _delete_=True,
            type='mmcompress.TwoHotLocalizationLoss',
            alpha=2.0,
            n=10,
            beta=1.0,
            lambda_um=0.5)))
