# merges without training
_base_ = [
    'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
    '../_base_/hooks.py'
]

custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks

# top-1 82.37
load_from = 'https://download.openmmlab.com/mmclassification/v0/vit/vit-base-p16_pt-32xb128-mae_in1k_20220623-4c544545.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=8)])
