# the second stage, after sparsifiner_vit_mini_recon.py
_base_ = '../tome/vit_mini.py'

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
                # a sixth of 65 tokens would be ten maps, which find too little
                reduce_n_factor=2,
                coef_topk=16)
        ]),
    teacher=dict(
        cfg='{{ fileDirname }}/../tome/vit_mini.py',
        checkpoint='cache://vit_mini'),
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
            teacher='backbone.ln1')))

load_from = 'cache://sparsifiner_vit_mini_recon'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', end=3, convert_to_iter_based=True)
]
default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
