# MAE's own fine-tuning with 16 tokens fewer behind each layer. Proportional
# attention is on, as in the official checkpoints that were trained so.
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
    '../_base_/runtime.py'
]

# 1,600 epochs of MAE
mae = 'https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=16)])
model['model'].backbone.init_cfg.checkpoint = mae
