# the real-valued network that the 1-bit ones are compared with
_base_ = '../_base_/mini_classification.py'
