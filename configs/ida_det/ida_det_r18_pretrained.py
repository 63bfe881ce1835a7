# the official start: a 1-bit backbone pretrained on ImageNet
_base_ = './ida_det_r18.py'

model = dict(
    student=dict(
        backbone=dict(
            frozen_stages=1,
            norm_eval=True,
            init_cfg=dict(
                checkpoint='work_dirs/ida_det_pretrain_r18_step2/'
                'epoch_128.pth',
                prefix='backbone.'))))
