# merges without training; both extra tokens stay
_base_ = [
    'mmpretrain::deit/deit-small-distilled_4xb256_in1k.py',
    '../_base_/runtime.py'
]

# top-1 81.17
load_from = 'https://download.openmmlab.com/mmclassification/v0/deit/deit-small-distilled_3rdparty_pt-4xb256_in1k_20211216-4de1d725.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=13)])
