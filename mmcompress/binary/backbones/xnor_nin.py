"""The network in network that XNOR-Net's PyTorch port trains on CIFAR-10."""
from typing import TYPE_CHECKING

import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.binary.layers.xnor import XNORConv2d
from mmcompress.lowbit import folds, row_of
from mmcompress.registry import MODELS

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding


class XNORUnit(nn.Module):
    """Norm, signs, dropout, 1-bit convolution, ReLU.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int): Of the convolution, which keeps the size.
        dropout (float): Probability with which a sign becomes 0 in training.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels, eps=1e-4)
        self.dropout = nn.Dropout(dropout)
        self.conv = XNORConv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Compute the unit; shape (N, C, H, W) stays, but for the channels."""
        x = self.bn(x)
        if not self.training:
            # the same, for whoever looks at the layer's input and output
            return self.relu(self.conv(x))
        signs = self.conv.binarize_input(x)
        return self.relu(self.conv.convolve(self.dropout(signs)))


@row_of(XNORUnit)
def _row(unit: XNORUnit) -> list[nn.Module]:
    return [unit.bn, unit.conv, unit.relu]


@folds(XNORUnit)
def _fold_unit(unit: XNORUnit, folding: 'Folding') -> nn.Module | None:
    return folding.row([unit], is_unit=True)


@MODELS.register_module()
class XNORNIN(BaseModule):
    """1-bit network in network for CIFAR-10, by XNOR-Net's rules.

    It is the network of the PyTorch port by jiecaoyu, with its names, so that
    the port's checkpoints can be converted. The first and the last
    convolution are real-valued. The last one gives a map per class; the port
    takes their means as scores: ``GlobalAveragePooling`` as the neck and
    ``ClsHead`` as the head.

    Args:
        num_classes (int): Channels of the output.
        in_channels (int): Channels of the image.
        init_cfg (dict | list[dict], optional): Initialisation.
    """

    def __init__(self,
                 num_classes: int = 10,
                 in_channels: int = 3,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.xnor = nn.Sequential(
            nn.Conv2d(in_channels, 192, 5, padding=2),
            nn.BatchNorm2d(192, eps=1e-4, affine=False),
            nn.ReLU(),
            XNORUnit(192, 160, 1),
            XNORUnit(160, 96, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
            XNORUnit(96, 192, 5, dropout=0.5),
            XNORUnit(192, 192, 1),
            XNORUnit(192, 192, 1),
            nn.AvgPool2d(3, stride=2, padding=1),
            XNORUnit(192, 192, 3, dropout=0.5),
            XNORUnit(192, 192, 1),
            nn.BatchNorm2d(192, eps=1e-4, affine=False),
            nn.Conv2d(192, num_classes, 1),
            nn.ReLU(),
        )  # yapf: disable

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Compute a map per class.

        Args:
            x (Tensor): Images, shape (N, in_channels, H, W).

        Returns:
            tuple[Tensor]: Shape (N, num_classes, H / 4, W / 4), rounded up.
        """
        return self.xnor(x),
