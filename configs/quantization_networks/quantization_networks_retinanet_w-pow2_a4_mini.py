# second phase: activations are 0 to 15, weights go on from the first phase
_base_ = './quantization_networks_retinanet_w-pow2_mini.py'

# no ReLU stands before these
signed = dict(activation=dict(type='LSQ', bits=4))

model = dict(steps=[
    dict(
        _base_.model.steps[0],
        activation=dict(type='QNActivation', bits=4),
        overrides={
            'neck.fpn_convs': signed,
            'bbox_head.cls_convs.0': signed,
            'bbox_head.reg_convs.0': signed
        })
])

load_from = 'cache://quantization_networks_retinanet_w-pow2_mini'

default_hooks = dict(temperature=dict(step_a=0.2), keep=dict(name=None))
