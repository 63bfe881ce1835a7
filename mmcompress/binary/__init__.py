from .backbones import XNORNIN, BiResNet, BiSSDVGG, PointNet
from .heads import *  # noqa: F401, F403
from .heads import __all__ as _heads
from .layers import *  # noqa: F401, F403
from .layers import __all__ as _layers
from .necks import IDaDetFPN, PointNetNeck

__all__ = [
    'BiResNet', 'BiSSDVGG', 'IDaDetFPN', 'PointNet', 'PointNetNeck', *_heads,
    'XNORNIN', *_layers
]
