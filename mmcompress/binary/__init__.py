from .backbones import BiResNet, PointNet
from .heads import *  # noqa: F401, F403
from .heads import __all__ as _heads
from .layers import (IDaDetConv2d, PoemConv1d, PoemLinear, binary_conv2d,
                     binary_sign, bireal_sign, ida_det_weight)
from .necks import IDaDetFPN, PointNetNeck

__all__ = [
    'BiResNet', 'IDaDetConv2d', 'IDaDetFPN', 'PoemConv1d', 'PoemLinear',
    'PointNet', 'PointNetNeck', 'binary_conv2d', 'binary_sign', 'bireal_sign',
    'ida_det_weight', *_heads
]
