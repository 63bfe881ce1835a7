# the second stage, after sparsifiner_deit-small_recon_in1k.py
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

# top-1 80.69
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model,
        steps=[
            dict(
                type='mmcompress.Sparsifiner',
                stage='finetune',
                attn_keep_rate=0.25)
        ]),
    teacher=dict(
        cfg='mmpretrain::deit/deit-small_4xb256_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        loss_kd=dict(
            type='mmcompress.KDLoss',
            student='head',
            teacher='head',
            tau=1.0,
            loss_weight=0.5),
        loss_token=dict(
            type='mmcompress.TokenDistillLoss',
            student='backbone.ln1',
            teacher='backbone.ln1',
            loss_weight=0.5)))

load_from = 'work_dirs/sparsifiner_deit-small_recon_in1k/epoch_5.pth'

# 8 GPUs
train_dataloader = dict(batch_size=168)
optim_wrapper = dict(optimizer=dict(lr=8e-5), clip_grad=None)
train_cfg = dict(max_epochs=45)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        end=3,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-6,
        by_epoch=True,
        begin=3,
        end=45,
        convert_to_iter_based=True)
]
custom_hooks = _base_.custom_hooks + [
    dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')
]
auto_scale_lr = dict(_delete_=True, enable=False)
