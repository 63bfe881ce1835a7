# 578 image tokens become 386; the official code of BLIP was not released
_base_ = [
    'mmpretrain::blip/blip-base_8xb32_retrieval_flickr30k.py',
    '../_base_/hooks.py'
]

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.CrossGET',
            vision=16,
            # the momentum encoder gets the same
            backbone=['vision_backbone', 'vision_backbone_m'])
    ])
custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
