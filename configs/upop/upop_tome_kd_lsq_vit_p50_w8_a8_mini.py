# half of the units' parameters, 65 tokens that become 25, 8 bits, and the
# dense model as a teacher; the numbers of units are what a search left
_base_ = ['./upop_vit_p50_mini.py', '../_base_/quantization.py']

model = dict(
    _delete_=True,
    type='mmcompress.Distill',
    student=dict(
        type='mmcompress.Compress',
        model=_base_.model.model,
        steps=[
            dict(
                type='mmcompress.KeepUnits',
                units={
                    'backbone.layers.0.attn': 14,
                    'backbone.layers.0.ffn': 100,
                    'backbone.layers.1.attn': 6,
                    'backbone.layers.1.ffn': 67,
                    'backbone.layers.2.attn': 8,
                    'backbone.layers.2.ffn': 59,
                    'backbone.layers.3.attn': 4,
                    'backbone.layers.3.ffn': 56,
                    'backbone.layers.4.attn': 5,
                    'backbone.layers.4.ffn': 63
                }),
            dict(type='mmcompress.MergeTokens', r=8), _base_.int8
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
            loss_weight=3.0)))
# of the search, by tools/deploy/prune.py
load_from = 'pruned/vit_p50.pth'

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(optimizer=dict(lr=0.001), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        T_max=3,
        end=3,
        by_epoch=True,
        convert_to_iter_based=True)
]
default_hooks = dict(upop=dict(p=None), checkpoint=dict(interval=3))
