from .builder import Distill
from .distiller import Distiller
from .feature_autoencoder import FeatureAutoencoder
from .losses import DistillLoss
from .mutual_distiller import MutualDistill
from .schedule import PiecewiseLinear
from .teacher import Teacher

__all__ = [
    'Distill', 'Distiller', 'DistillLoss', 'FeatureAutoencoder',
    'MutualDistill', 'PiecewiseLinear', 'Teacher'
]
