from .dense_heads import TwoHotRetinaHead, TwoHotRPNHead
from .fcos_head import TwoHotFCOSHead
from .grid import decode, make_grid, outside, two_hot
from .losses import (TwoHotLocalizationLoss, cross_entropy, entropy,
                     label_entropy, uncertainty)
from .perturbation import perturbations
from .roi_heads import TwoHotBBoxHead, UGSRoIHead

__all__ = [
    'TwoHotBBoxHead', 'TwoHotFCOSHead', 'TwoHotLocalizationLoss',
    'TwoHotRPNHead', 'TwoHotRetinaHead', 'UGSRoIHead', 'cross_entropy',
    'decode', 'entropy', 'label_entropy', 'make_grid', 'outside',
    'perturbations', 'two_hot', 'uncertainty'
]
