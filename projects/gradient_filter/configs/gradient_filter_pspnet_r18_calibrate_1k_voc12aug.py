# Before the fine-tuning: only the classifier learns the new classes, from the
# weights of Cityscapes. Its layer doesn't fit, and starts at random.
_base_ = './_base_/gradient_filter_pspnet_r18.py'

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

# mIoU 74.87 on Cityscapes
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/pspnet/pspnet_r18-d8_512x1024_80k_cityscapes/pspnet_r18-d8_512x1024_80k_cityscapes_20201225_021458-09ffa746.pth'  # noqa: E501

train_cfg = dict(max_iters=1000, val_interval=1000)
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=1000))
