"""Real-valued layers of a packed model: norms folded, layouts fitting."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .constants import has_statistics


class PointwiseConv2d(nn.Conv2d):
    """Real-valued 1x1 convolution as a matrix product, channels-last.

    On one thread torch's own takes a path that changes the layout twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, shape (N, C, H, W) to (N, K, H, W)."""
        y = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


def _as_pointwise(conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution as :class:`PointwiseConv2d`, where it is one."""
    geometry = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
    if geometry != ((1, 1), (1, 1), (0, 0), 1):
        return conv
    pointwise = PointwiseConv2d(conv.in_channels, conv.out_channels, 1)
    pointwise.weight, pointwise.bias = conv.weight, conv.bias
    return pointwise


def fuse_float_norms(modules: nn.Sequential) -> nn.Sequential:
    """Fold norms into the real-valued convolutions in front of them."""
    fused: list[nn.Module] = []
    for module in modules:
        if fused and has_statistics(module) and type(fused[-1]) is nn.Conv2d:
            conv = fuse_conv_bn_eval(fused[-1], module)
            # the layout of what comes in and goes out
            fused[-1] = _as_pointwise(
                conv.to(memory_format=torch.channels_last))
        else:
            fused.append(module)
    return nn.Sequential(*fused)
