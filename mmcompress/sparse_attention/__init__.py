from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        attention=['SparseAttention'],
        predictor=['Macs', 'MaskPredictor', 'largest', 'macs'],
        sparsifiner=['Sparsifiner', 'TokenPruner']))
