# Encoder and decoder, a tenth of DETR's epochs: the recipe is ours
_base_ = ['mmdet::detr/detr_r50_8xb2-150e_coco.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MaskUnits')])

# box AP 39.9
load_from = 'https://download.openmmlab.com/mmdetection/v3.0/detr/detr_r50_8xb2-150e_coco/detr_r50_8xb2-150e_coco_20221023_153551-436d03e8.pth'  # noqa: E501

train_cfg = dict(max_epochs=15)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = []
default_hooks = dict(
    upop=dict(type='mmcompress.UPopHook', p=0.5, interval=5000))
