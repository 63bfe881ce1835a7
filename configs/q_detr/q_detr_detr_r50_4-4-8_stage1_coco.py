# first stage: the backbone is quantized, the transformer is float
_base_ = './_base_/detr_r50.py'

quantize = _base_.quantize
quantize.include = ['backbone']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[quantize])

load_from = _base_.float_ckpt
