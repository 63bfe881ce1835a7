_base_ = './ida_det_r18.py'

model = dict(
    student=dict(
        backbone=dict(
            depth=34, init_cfg=dict(checkpoint='torchvision://resnet34'))))
