# what the 1-bit detector leaves real-valued in INT8: stem, shortcuts, neck's
# and heads' layers, of which the RoI head's take most of the time
_base_ = ['./ida_det_student_r18.py', '../_base_/quantization.py']

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    # norms are between 1-bit layers as well
    steps=[dict(_base_.int8, norms='trained')])

load_from = 'work_dirs/ida_det_student_r18/epoch_12.pth'

train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(lr=4e-5), paramwise_cfg=_base_.no_decay)
param_scheduler = [
    dict(type='CosineAnnealingLR', end=1, convert_to_iter_based=True)
]
