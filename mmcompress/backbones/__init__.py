import mmcompress.compat  # noqa: F401
from .mobilenet_v1 import MobileNetV1

__all__ = ['MobileNetV1']
try:
    from .cifar_resnet import CifarResNet  # noqa: F401
    from .deit3 import DeiT3  # noqa: F401
    from .g2sd import DistTokenClsHead  # noqa: F401
    from .g2sd import (DistTokenVisionTransformer, MAEFeatureDecoder,
                       MAEWithoutPixels)
    from .layer_decay import BackboneLayerDecay  # noqa: F401
    from .vitdet import SimpleFPN, ViTDet  # noqa: F401
    __all__ += [
        'BackboneLayerDecay', 'CifarResNet', 'DeiT3', 'DistTokenClsHead',
        'DistTokenVisionTransformer', 'MAEFeatureDecoder', 'MAEWithoutPixels',
        'SimpleFPN', 'ViTDet'
    ]
except ModuleNotFoundError as error:
    # subclasses of mmpretrain's
    if error.name != 'mmpretrain':
        raise
