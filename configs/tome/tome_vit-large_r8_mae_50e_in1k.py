# MAE's own fine-tuning with 8 tokens fewer behind each layer
_base_ = [
    'mmpretrain::mae/benchmarks/vit-large-p16_8xb128-coslr-50e_in1k.py',
    '../_base_/runtime.py'
]

# 1,600 epochs of MAE
mae = 'https://download.openmmlab.com/mmselfsup/1.x/mae/mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k/mae_vit-large-p16_8xb512-fp16-coslr-1600e_in1k_20220825-cc7e98c9.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=8)])
model['model'].backbone.init_cfg.checkpoint = mae
