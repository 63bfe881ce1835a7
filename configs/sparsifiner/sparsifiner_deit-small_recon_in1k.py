# the first stage: nothing but the predictors is trained
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

layers = [f'backbone.layers.{i}.attn' for i in range(12)]

# top-1 80.69
float_ckpt = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small_pt-4xb256_in1k_20220218-9425b9bb.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model,
        steps=[dict(type='mmcompress.Sparsifiner', stage='reconstruct')]),
    teacher=dict(
        cfg='mmpretrain::deit/deit-small_4xb256_in1k.py',
        checkpoint=float_ckpt),
    losses=dict(
        loss_rec=dict(
            type='mmcompress.AttentionReconLoss',
            student=[f'{attn}.mask_predictor' for attn in layers],
            teacher=[f'{attn}.qkv' for attn in layers],
            loss_weight=0.01)))

load_from = float_ckpt

# 8 GPUs; the sum over images of the loss belongs to this size
train_dataloader = dict(batch_size=168)
optim_wrapper = dict(optimizer=dict(lr=3e-4), clip_grad=None)
train_cfg = dict(max_epochs=5)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        end=3,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=2e-4,
        by_epoch=True,
        begin=3,
        end=5,
        convert_to_iter_based=True)
]
custom_hooks = _base_.custom_hooks + [
    dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')
]
auto_scale_lr = dict(_delete_=True, enable=False)
