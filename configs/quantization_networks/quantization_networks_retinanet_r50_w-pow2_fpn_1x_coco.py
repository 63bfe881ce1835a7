# weights -4, -2, -1, 0, 1, 2, 4; the stem and the predictions stay float
_base_ = [
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', '../_base_/runtime.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    # scales of weights change, so the norms have to follow
    model=dict(
        _base_.model,
        backbone=dict(
            _base_.model.backbone,
            frozen_stages=-1,
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            norm_eval=False,
            init_cfg=None)),
    steps=[
        dict(
            type='mmcompress.QuantizeLayers',
            # no norm follows the convolutions of the neck and the head
            weight=dict(
                type='QNWeight', levels=[-4, -2, -1, 0, 1, 2, 4], init='fit'),
            first_last=dict(weight=None, activation=None))
    ])

# box AP 36.5
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r50_fpn_1x_coco/retinanet_r50_fpn_1x_coco_20200130-c2398f9e.pth'  # noqa: E501

optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    clip_grad=dict(max_norm=35),
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))

# 720 in the last epoch
default_hooks = dict(
    temperature=dict(type='mmcompress.TemperatureHook', step_w=60))
