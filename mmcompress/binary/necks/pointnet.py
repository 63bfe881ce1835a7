"""The fully-connected layers between PointNet and its classifier."""
import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.registry import MODELS
from ..backbones.pointnet import build_units, default_act


@MODELS.register_module()
class PointNetNeck(BaseModule):
    """Fully-connected units on the feature of a cloud.

    Together with a ``LinearClsHead``, whose layer stays real-valued, the
    classifier of PointNet.

    Args:
        in_channels (int): Of the backbone's feature.
        channels (tuple[int]): Of the units.
        binary (dict, optional): As in :class:`PointNet`.
        act (str, optional): As in :class:`PointNet`.
        dropout (float): Probability, after the last unit.
        init_cfg (dict | list[dict], optional): As in :class:`PointNet`.
    """

    def __init__(self,
                 in_channels: int = 1024,
                 channels: tuple[int, ...] = (512, 256),
                 binary: dict | None = None,
                 act: str | None = None,
                 dropout: float = 0.0,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.units = build_units((in_channels, *channels), binary, act
                                 or default_act(binary), False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Compute the units.

        Args:
            feats (tuple[Tensor]): The last one has shape (B, in_channels).

        Returns:
            tuple[Tensor]: Shape (B, channels[-1]).
        """
        return (self.dropout(self.units(feats[-1])), )
