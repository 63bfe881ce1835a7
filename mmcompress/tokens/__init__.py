from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        clip_retrieval=['CLIPRetrieval'],
        cross_loss=['js_loss'],
        crossget=['CrossGET'],
        layers=['Merging', 'MergingLayer'],
        matching=['Match'],
        merging=['merge', 'unmerge'],
        step=['MergeTokens', 'schedule'],
        tokens=['Tokens']))
