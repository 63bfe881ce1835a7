# 78 text tokens become 6, the cross token among them; images keep all
# load_from: a CLIP that was fine-tuned on Flickr30k, see the README
_base_ = '../_base_/clip_vit-base-p16_flickr30k.py'

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.CrossGET', text=6)])
