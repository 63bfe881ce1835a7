# what the released code quantizes, and how, in the second stage: the weights
# of the decoder's cross-attention are float, and its queries are not aligned
_base_ = './_base_/detr_r50.py'

quantize = _base_.quantize
quantize.activation.offset = quantize.attention.offset = 'zero_point'
quantize.act_granularity = 'channel'
quantize.first_last = dict(weight=8, activation=8)
quantize.exclude = ['bbox_head', 'neck', 'backbone.*.downsample.0']
quantize.overrides = {
    'decoder.layers.*.self_attn.attn':
    dict(query_norm=dict(type='DistributionAlignment')),
    # what attentions project is float
    '*_attn.attn':
    dict(activation=None),
    'decoder.layers.*.cross_attn.attn':
    dict(weight=None)
}

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[quantize])

load_from = _base_.float_ckpt
