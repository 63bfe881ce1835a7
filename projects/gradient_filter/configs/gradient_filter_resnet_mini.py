# The mini teacher was trained on digits that stand upright. Here it is
# fine-tuned on digits that lie; its last four convolutions and the classifier
# learn.
_base_ = 'mmcompress::kd/kd_resnet_mini_teacher.py'

custom_imports = dict(
    imports=['mmcompress.compat', 'gradient_filter'],
    allow_failed_imports=False)

model = dict(
    _delete_=True,
    type='mmcompress.Compress',
    model=_base_.model,
    steps=[
        dict(
            type='mmcompress.FilterGradients',
            layers={'backbone.layer3.*.conv?': 2},
            freeze=['*', '~backbone.layer3.*.conv?', '~head'],
            norm_eval=True)
    ])

load_from = 'cache://kd_resnet_mini_teacher'

pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Rotate', angle=90.0, prob=1.0, random_negative_prob=0.0),
    dict(type='PackInputs')
]
# half of the images, in small batches
train_dataloader = dict(
    batch_size=32, dataset=dict(dataset=dict(pipeline=pipeline, indices=2500)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=pipeline)))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=3, val_interval=3)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=0.05, momentum=0.9),
    clip_grad=dict(max_norm=2.0))
param_scheduler = dict(end=3)
default_hooks = dict(checkpoint=dict(interval=3), keep=dict(name=None))
