from .bi_resnet import BiResNet
from .bi_vgg import BiSSDVGG
from .pointnet import PointNet
from .xnor_nin import XNORNIN

__all__ = ['BiResNet', 'BiSSDVGG', 'PointNet', 'XNORNIN']
