# For configs that quantize:
#   _base_ = ['mmdet::...', '../_base_/runtime.py', '../_base_/quantization.py']
#   model = dict(_delete_=True, type='mmcompress.Compress', model=_base_.model,
#                steps=[_base_.int8])
#   optim_wrapper = dict(paramwise_cfg=_base_.no_decay)

# Scales and offsets of quantizers are not weights: decay would shrink them.
# Of several keys that match a parameter the longest counts, as `backbone` of
# some configs, which the first two outdo. Those of Deformable DETR are longer:
# see q_detr/_base_/quantize.py.
no_decay = dict(
    custom_keys={
        '.weight_quant.': dict(decay_mult=0.),
        '.input_quant.': dict(decay_mult=0.),
        '_quant': dict(decay_mult=0.)
    })

# Weights with a scale per output channel, and activations with one.
int8 = dict(
    type='mmcompress.QuantizeLayers',
    weight=dict(type='LSQ', bits=8),
    activation=dict(type='LSQ', bits=8),
    # they fold into the weights' scales, so that training sees what runs
    norms='frozen')
