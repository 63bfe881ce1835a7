import mmcompress.compat  # noqa: F401
from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, dict(ida_det=['IDaDetRPNHead'], ssd=['SSDHead']))
