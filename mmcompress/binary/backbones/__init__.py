from .bi_resnet import BiResNet
from .bi_vgg import BiSSDVGG

__all__ = ['BiResNet', 'BiSSDVGG']
