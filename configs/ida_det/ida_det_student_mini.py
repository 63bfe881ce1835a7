# the small 1-bit detector alone; tests what ida_det_r18_mini.py trains
_base_ = './_base_/ida_det_faster-rcnn_mini.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmcompress.BiResNet',
        depth=18,
        base_channels=32,
        # trained from scratch
        frozen_stages=-1,
        norm_eval=False),
    neck=dict(type='mmcompress.IDaDetFPN'),
    rpn_head=dict(type='mmcompress.IDaDetRPNHead'))

# a 1-bit step takes about twice as long as a real-valued one in training
train_cfg = dict(max_epochs=4, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=0.002))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end=4,
        T_max=4,
        convert_to_iter_based=True)
]
