# What every config of mmcompress adds to the mm runtime it inherits.
# `compat` first: mmengine imports torchvision before it builds a model.
custom_imports = dict(
    imports=['mmcompress.compat'], allow_failed_imports=False)

custom_hooks = [
    # relative paths of teachers start at the config's folder
    dict(type='mmcompress.DistillHook'),
    # checkpoints that load under torch's restricted loading
    dict(type='mmcompress.PlainCheckpointHook'),
    # resumed training equals uninterrupted training
    dict(type='mmcompress.ExactResumeHook'),
    # a loss that is not finite stops the run, in words
    dict(type='mmcompress.NonFiniteLossHook'),
]
