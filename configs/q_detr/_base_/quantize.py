# What Q-DETR quantizes, at 4-4-8 bits: weights, what they are multiplied with,
# and the queries, keys, values and maps of attentions.
eight_bits = dict(weight=8, activation=8)
quantize = dict(
    type='mmcompress.QuantizeLayers',
    weight=dict(type='LSQ', bits=4),
    activation=dict(type='LSQ', bits=4),
    attention=dict(type='LSQ', bits=8),
    # what predicts stays float
    exclude=['bbox_head'],
    # the first convolution has 8 bits by default
    overrides={
        'backbone.*.downsample.0': eight_bits,
        'neck': eight_bits,
        # of the queries, not of the encoder's
        'decoder': dict(query_norm=dict(type='DistributionAlignment'))
    })

# for the optimizer. Of several keys that match, the longest counts: these
# outdo `backbone` and `sampling_offsets`, and say their learning rate again
_scales = dict(lr_mult=0.1, decay_mult=0.)
custom_keys = {
    '.weight_quant.scale': _scales,
    '.input_quant.scale': _scales,
    '.input_quant.zero_point': _scales,
    '_quant.': dict(decay_mult=0.),
    '.norm_q.': dict(decay_mult=0.)
}
