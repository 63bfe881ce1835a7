# the first stage: nothing but the predictors is trained
_base_ = '../tome/vit_mini.py'

layers = [f'backbone.layers.{i}.attn' for i in range(5)]

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model,
        steps=[
            dict(
                type='mmcompress.Sparsifiner',
                stage='reconstruct',
                # a sixth of 65 tokens would be ten maps, which find too little
                reduce_n_factor=2,
                coef_topk=16)
        ]),
    teacher=dict(
        cfg='{{ fileDirname }}/../tome/vit_mini.py',
        checkpoint='cache://vit_mini'),
    losses=dict(
        loss_rec=dict(
            type='mmcompress.AttentionReconLoss',
            student=[f'{attn}.mask_predictor' for attn in layers],
            teacher=[f'{attn}.qkv' for attn in layers],
            reduction='mean_batch',
            loss_weight=1.0)))

load_from = 'cache://vit_mini'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='CosineAnnealingLR', end=3, convert_to_iter_based=True)
]
default_hooks = dict(
    checkpoint=dict(interval=3), keep=dict(name='sparsifiner_vit_mini_recon'))
