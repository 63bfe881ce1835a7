from mmcompress.lazy_imports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    dict(
        builder=['Distill'],
        distiller=['Distiller'],
        feature_autoencoder=['FeatureAutoencoder'],
        losses=['DistillLoss'],
        mutual_distiller=['MutualDistill'],
        schedule=['PiecewiseLinear'],
        teacher=['Teacher']))
