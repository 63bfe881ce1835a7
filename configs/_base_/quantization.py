# Scales and offsets of quantizers are not weights: decay would shrink them.
# Needs a `weight_decay` in the optimizer; one of 0 will do.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'_quant': dict(decay_mult=0.)}))
