import mmcompress.compat  # noqa: F401

__all__ = []
try:
    from .ida_det import IDaDetRPNHead  # noqa: F401
    from .ssd import SSDHead  # noqa: F401
    __all__ += ['IDaDetRPNHead', 'SSDHead']
except ModuleNotFoundError as error:
    # the heads are subclasses of mmdet's; the other parts do without it
    if error.name != 'mmdet':
        raise
