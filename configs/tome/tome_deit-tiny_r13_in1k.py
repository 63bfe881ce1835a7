# DeiT's own recipe, 300 epochs, with 13 tokens fewer behind each layer
_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=13)])
