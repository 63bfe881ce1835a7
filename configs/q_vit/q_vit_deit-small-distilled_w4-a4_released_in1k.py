# as the released code quantizes: each channel of an input has a scale of its
# own and an integer zero point, for which there is no integer product
_base_ = './q_vit_deit-small-distilled_w4-a4_in1k.py'

weight = dict(type='LSQ', bits=4, init='lsq', init_stat='tensor')
activation = dict(weight, offset='zero_point')

# that code has no DGD either
model = dict(
    losses=dict(_delete_=True, loss_hard=_base_.model.losses.loss_hard),
    student=dict(steps=[
        dict(
            _base_.model.student.steps[0],
            weight=weight,
            activation=activation,
            attention=activation,
            first_last=dict(
                weight=dict(weight, bits=8),
                activation=dict(activation, bits=8)),
            act_granularity='channel')
    ]))
