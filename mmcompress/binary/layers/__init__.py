from .base import BinaryConv2d, InferenceRule
from .binary_conv import binary_conv2d
from .ida_det import IDaDetConv2d, ida_det_weight
from .poem import PoemConv1d, PoemLinear
from .sign import binary_sign, bireal_sign

__all__ = [
    'BinaryConv2d', 'IDaDetConv2d', 'InferenceRule', 'PoemConv1d',
    'PoemLinear', 'binary_conv2d', 'binary_sign', 'bireal_sign',
    'ida_det_weight'
]
