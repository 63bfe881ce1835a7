# the classification of distances alone, lambda 0
_base_ = './cbbl_fcos_mini_giou.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'cbbl'], allow_failed_imports=False)

model = dict(
    bbox_head=dict(
        type='mmcompress.TwoHotFCOSHead',
        loss_bbox=dict(
            _delete_=True,
            type='mmcompress.TwoHotLocalizationLoss',
            alpha=4.0,
            n=16,
            beta=None,
            one_sided=True,
            lambda_um=0.0)))
