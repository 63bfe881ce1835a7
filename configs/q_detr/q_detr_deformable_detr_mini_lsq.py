# LSQ alone, at 2-2-8 bits, from the float model on
_base_ = ['./q_detr_deformable_detr_mini_teacher.py', './_base_/quantize.py']

quantize = _base_.quantize
quantize.weight.bits = quantize.activation.bits = 2
quantize.overrides.pop('decoder')

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[quantize])

load_from = 'cache://q_detr_deformable_detr_mini_teacher'

train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=2, T_max=2)
optim_wrapper = dict(
    optimizer=dict(lr=0.001),
    paramwise_cfg=dict(
        custom_keys={
            '_delete_': True,
            '_quant.': dict(decay_mult=0.),
            '.norm_q.': dict(decay_mult=0.)
        }))
default_hooks = dict(keep=dict(name=None))
