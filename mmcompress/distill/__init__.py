from .builder import Distill
from .distiller import Distiller
from .losses import DistillLoss
from .schedule import PiecewiseLinear
from .teacher import Teacher

__all__ = ['Distill', 'Distiller', 'DistillLoss', 'PiecewiseLinear', 'Teacher']
