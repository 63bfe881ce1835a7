from .ida_det import IDaDetFPN
from .pointnet import PointNetNeck

__all__ = ['IDaDetFPN', 'PointNetNeck']
