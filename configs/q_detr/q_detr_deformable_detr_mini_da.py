# with distribution alignment, in the self-attention: the cross-attention
# multiplies no queries with keys
_base_ = './q_detr_deformable_detr_mini_lsq.py'

quantize = _base_.quantize
quantize.overrides['decoder.layers.*.self_attn.attn'] = dict(
    query_norm=dict(type='DistributionAlignment'))

model = dict(steps=[quantize])
