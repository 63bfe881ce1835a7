# The head learns but for what pools the image. Its dilated convolutions have
# larger patches.
_base_ = './_base_/gradient_filter_deeplabv3_r18.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.FilterGradients',
            layers={
                'decode_head.bottleneck.conv': 3,
                'decode_head.aspp_modules.0.conv': 3,
                'decode_head.aspp_modules.1.conv': 3,
                'decode_head.aspp_modules.2.conv': 6,
                'decode_head.aspp_modules.3.conv': 9
            },
            freeze=['*', '~decode_head', 'decode_head.image_pool'],
            norm_eval=True)
    ])

load_from = 'work_dirs/gradient_filter_deeplabv3_r18_calibrate_1k_voc12aug/iter_1000.pth'  # noqa: E501
