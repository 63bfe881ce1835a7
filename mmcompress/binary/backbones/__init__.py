from .bi_resnet import BiResNet
from .bi_vgg import BiSSDVGG
from .pointnet import PointNet

__all__ = ['BiResNet', 'BiSSDVGG', 'PointNet']
