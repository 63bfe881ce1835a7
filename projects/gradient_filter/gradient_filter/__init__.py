from .function import gradient_filter_conv2d
from .layer import GradientFilterConv2d
from .step import FilterGradients

__all__ = ['FilterGradients', 'GradientFilterConv2d', 'gradient_filter_conv2d']
