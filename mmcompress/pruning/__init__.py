from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__, dict(
        units=['Member', 'Units', 'find_units', 'units_of'],
        channels=['Channels', 'find_channels'],
        keep_channels=['KeepChannels'],
        prune_channels=['PrunedChannels', 'prune_channels']))
