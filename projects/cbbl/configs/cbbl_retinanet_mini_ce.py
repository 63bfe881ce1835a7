# the classification of coordinates alone, lambda 0
_base_ = './cbbl_retinanet_mini_l1.py'

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
            lambda_um=0.0)))
