from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        predictor=['Macs', 'MaskPredictor', 'largest', 'macs'],
        sparsifiner=['SparseAttention', 'Sparsifiner', 'TokenPruner']))
