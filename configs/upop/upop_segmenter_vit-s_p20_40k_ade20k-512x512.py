# The official search: 16 epochs at a constant rate. For 8 x 1 images, not
# 4 x 64, so the rate is a 32nd and the interval 32 times theirs.
_base_ = [
    'mmseg::segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py',
    '../_base_/runtime.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MaskUnits')])

# mIoU 46.19
load_from = 'https://download.openmmlab.com/mmsegmentation/v0.5/segmenter/segmenter_vit-s_mask_8x1_512x512_160k_ade20k/segmenter_vit-s_mask_8x1_512x512_160k_ade20k_20220105_151706-511bb103.pth'  # noqa: E501

train_cfg = dict(max_iters=40000, val_interval=8000)
optim_wrapper = dict(optimizer=dict(lr=1.25e-4))
param_scheduler = []
default_hooks = dict(
    upop=dict(type='mmcompress.UPopHook', p=0.2, interval=9600),
    checkpoint=dict(interval=8000))
