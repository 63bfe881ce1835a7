# What every config of mmcompress adds to the mm runtime it inherits; where
# that has `custom_hooks` already, inherit hooks.py.
_base_ = './hooks.py'

custom_hooks = _base_.mmcompress_hooks
