# The whole head learns.
_base_ = './_base_/gradient_filter_pspnet_r18.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.FilterGradients',
            layers={'decode_head.bottleneck.conv': 4},
            freeze=['*', '~decode_head'],
            norm_eval=True)
    ])

load_from = 'work_dirs/gradient_filter_pspnet_r18_calibrate_1k_voc12aug/iter_1000.pth'  # noqa: E501
