import mmcompress.compat  # noqa: F401

__all__ = []
try:
    from .deit3 import DeiT3  # noqa: F401
    __all__.append('DeiT3')
except ModuleNotFoundError as error:
    # a subclass of mmpretrain's
    if error.name != 'mmpretrain':
        raise
