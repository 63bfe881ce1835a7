# the encoder of g2sd_mae_mini_teacher.py, finetuned; teaches the second stage
_base_ = './g2sd_vit_mini_student.py'

model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=96, num_layers=4, num_heads=4,
            feedforward_channels=192),
        out_type='avg_featmap',
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='cache://g2sd_mae_mini_teacher',
            prefix='backbone.')),
    head=dict(in_channels=96))

train_cfg = dict(max_epochs=8, val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=150),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=8,
        T_max=8,
        convert_to_iter_based=True)
]

# found as `checkpoint='cache://g2sd_vit_mini_teacher'`
default_hooks = dict(
    # the norm layer behind the mean of the patches
    pretrained=dict(type='mmcompress.CheckPretrainedHook', new=['^ln2']),
    keep=dict(
        type='mmcompress.CacheTeacherHook', name='g2sd_vit_mini_teacher'))
