from mmcompress.lowbit import InferenceRule
from .base import BinaryConv1d, BinaryConv2d, BinaryLinear
from .bidet import BiDetConv2d, BiDetLinear
from .binary_conv import binary_conv2d, binary_linear
from .bireal import BiRealConv2d, bireal_weight
from .ida_det import IDaDetConv2d
from .poem import PoemConv1d, PoemLinear
from .rbonn import RBONNConv2d
from .react import ReActConv2d, RPReLU, RSign, Shift
from .rebnn import ReBNNConv2d
from .sign import binary_sign, bireal_sign
from .xnor import XNORConv2d, XNORLinear

__all__ = [
    'BiDetConv2d', 'BiDetLinear', 'BiRealConv2d', 'BinaryConv1d',
    'BinaryConv2d', 'BinaryLinear', 'IDaDetConv2d', 'InferenceRule',
    'PoemConv1d', 'PoemLinear', 'RBONNConv2d', 'RPReLU', 'RSign',
    'ReActConv2d', 'ReBNNConv2d', 'Shift', 'XNORConv2d', 'XNORLinear',
    'binary_conv2d', 'binary_linear', 'binary_sign', 'bireal_sign',
    'bireal_weight'
]
