# merges without training
_base_ = [
    'mmpretrain::vision_transformer/vit-large-p16_64xb64_in1k-384px.py',
    '../_base_/runtime.py'
]

# pretrained on ImageNet-21k; top-1 85.63
load_from = 'https://download.openmmlab.com/mmclassification/v0/vit/finetune/vit-large-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-b20ba619.pth'  # noqa: E501

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.MergeTokens', r=23)])
