# what step 2 leaves real-valued, the stem, shortcuts and the classifier, in
# INT8: a few epochs from its last checkpoint on, from a small learning rate
_base_ = ['./react_r18_step2.py', '../_base_/quantization.py']

model = dict(
    student=dict(
        _delete_=True,
        type='mmcompress.Compress',
        model=_base_.model.student,
        # norms are between 1-bit layers as well
        steps=[dict(_base_.int8, norms='trained')]))

load_from = 'work_dirs/react_r18_step2/epoch_128.pth'

train_cfg = dict(max_epochs=5)
param_scheduler = dict(end=5)
optim_wrapper = dict(optimizer=dict(lr=1e-5), paramwise_cfg=_base_.no_decay)
