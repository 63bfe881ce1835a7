from .backbones import BiResNet
from .heads import *  # noqa: F401, F403
from .heads import __all__ as _heads
from .layers import (IDaDetConv2d, binary_conv2d, binary_sign, bireal_sign,
                     ida_det_weight)
from .necks import IDaDetFPN

__all__ = [
    'BiResNet', 'IDaDetConv2d', 'IDaDetFPN', 'binary_conv2d', 'binary_sign',
    'bireal_sign', 'ida_det_weight', *_heads
]
