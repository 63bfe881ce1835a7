from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        channel_pruning=['PrunedChannels', 'prune_channels'],
        channels=['Channels', 'find_channels'],
        cutting=['cut'],
        keep_channels=['KeepChannels'],
        mask_gradients=['MaskGradients'],
        mask_units=['MaskUnits'],
        masks=['add_masks', 'masked_units', 'masks_of'],
        rebuild=['KeepUnits'],
        units=['Member', 'Units', 'find_units', 'units_of'],
        upop=['keep_units', 'lower_masks', 'progress', 'updates_at']))
