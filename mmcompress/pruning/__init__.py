from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        cutting=['cut'],
        keep_units=['KeepUnits'],
        units=['Member', 'Units', 'find_units', 'units_of']))
