# Before the fine-tuning: only the classifier learns the new classes, from the
# weights of Cityscapes. Its layer doesn't fit, and starts at random.
_base_ = './_base_/gradient_filter_deeplabv3_r18.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.FilterGradients',
            layers={},
            freeze=['*', '~decode_head.conv_seg'],
            norm_eval=True)
    ])

# mIoU 76.70 on Cityscapes
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/deeplabv3/deeplabv3_r18-d8_512x1024_80k_cityscapes/deeplabv3_r18-d8_512x1024_80k_cityscapes_20201225_021506-23dffbe2.pth'  # noqa: E501

train_cfg = dict(max_iters=1000, val_interval=1000)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=1000))
