# the matching alone, for images alone; to be tested, or to be trained on
_base_ = ['mmpretrain::deit/deit-small_4xb256_in1k.py', '../_base_/runtime.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[dict(type='mmcompress.CrossGET', vision=13, cross_token=False)])
