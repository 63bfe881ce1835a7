# For base configs with hooks of their own:
#   _base_ = ['mmpose::...', '../_base_/hooks.py']
#   custom_hooks = _base_.custom_hooks + _base_.mmcompress_hooks
# Others inherit runtime.py, which sets `custom_hooks` to these. Outside of
# this folder, mmcompress.StandardHooks stands for all of them.
# `compat` first: mmengine imports torchvision before it builds a model.
custom_imports = dict(
    imports=['mmcompress.compat'], allow_failed_imports=False)

mmcompress_hooks = [
    # relative paths of teachers start at the config's folder
    dict(type='mmcompress.InformTeacherHook'),
    # checkpoints that load under torch's restricted loading
    dict(type='mmcompress.PlainCheckpointHook'),
    # resumed training equals uninterrupted training
    dict(type='mmcompress.ExactResumeHook'),
    # a loss that is not finite stops the run, in words
    dict(type='mmcompress.NonFiniteLossHook'),
    # classes that no annotation names stop the run, in words
    dict(type='mmcompress.CheckDataHook'),
]
