import mmcompress.compat  # noqa: F401
from .mobilenet_v1 import MobileNetV1

__all__ = ['MobileNetV1']
try:
    from .cifar_resnet import CifarResNet  # noqa: F401
    from .deit3 import DeiT3  # noqa: F401
    from .g2sd import (DistTokenClsHead,  # noqa: F401
                       DistTokenVisionTransformer, MAEFeatureDecoder,
                       MAEWithoutPixels)
    __all__ += [
        'CifarResNet', 'DeiT3', 'DistTokenClsHead',
        'DistTokenVisionTransformer', 'MAEFeatureDecoder', 'MAEWithoutPixels'
    ]
except ModuleNotFoundError as error:
    # subclasses of mmpretrain's
    if error.name != 'mmpretrain':
        raise
