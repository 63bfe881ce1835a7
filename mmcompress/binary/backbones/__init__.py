from .bi_resnet import BiResNet

__all__ = ['BiResNet']
