import mmcompress.compat  # noqa: F401
from .mobilenet_v1 import MobileNetV1

__all__ = ['MobileNetV1']
try:
    from .deit3 import DeiT3  # noqa: F401
    __all__.append('DeiT3')
except ModuleNotFoundError as error:
    # a subclass of mmpretrain's
    if error.name != 'mmpretrain':
        raise
