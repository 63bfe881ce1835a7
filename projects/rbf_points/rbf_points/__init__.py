from .activity import KernelActivity, kernel_activity
from .backbone import RBFNet
from .kernels import KERNELS, nearest_points, radial_features

__all__ = [
    'KERNELS', 'KernelActivity', 'RBFNet', 'kernel_activity', 'nearest_points',
    'radial_features'
]
