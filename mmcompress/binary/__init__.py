from mmcompress.lazy_imports import lazy_exports
from . import backbones, heads, layers, necks

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, {
        package.__name__.rpartition('.')[2]: package.__all__
        for package in (backbones, heads, layers, necks)
    })
