"""The 1-bit region proposal head of IDa-Det."""
from typing import TYPE_CHECKING

import torch.nn as nn
from mmcv.cnn import build_conv_layer
from mmdet.models.dense_heads import RPNHead
from torch import Tensor

from mmcompress.lowbit import folds
from mmcompress.registry import MODELS

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding


@MODELS.register_module()
class IDaDetRPNHead(RPNHead):
    """1-bit RPN head of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    mmdet's ``RPNHead`` with a 1-bit 3x3 convolution, followed by a PReLU in
    place of the ReLU. The two 1x1 outputs stay real-valued.

    Args:
        *args: As for ``RPNHead``.
        conv_cfg (dict): Which 1-bit convolution.
        **kwargs: As for ``RPNHead``.

    Raises:
        ValueError: If ``num_convs`` is not 1.
    """

    def __init__(self,
                 *args,
                 conv_cfg: dict = dict(type='mmcompress.IDaDetConv2d'),
                 **kwargs) -> None:
        # RPNHead builds the layers in its constructor
        self.conv_cfg = conv_cfg
        super().__init__(*args, **kwargs)

    def _init_layers(self) -> None:
        if self.num_convs != 1:
            raise ValueError('the 1-bit RPN head has one convolution, got '
                             f'num_convs={self.num_convs}')
        super()._init_layers()
        self.rpn_conv = build_conv_layer(
            self.conv_cfg, self.in_channels, self.feat_channels, 3, padding=1)
        self.prelu = nn.PReLU(self.feat_channels)

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute scores and box deltas of one level.

        Args:
            x (Tensor): Shape (N, in_channels, H, W).

        Returns:
            tuple[Tensor, Tensor]: Scores, shape (N, A, H, W), and deltas,
            shape (N, 4 * A, H, W), of A anchors.
        """
        x = self.prelu(self.rpn_conv(x))
        return self.rpn_cls(x), self.rpn_reg(x)


@folds(IDaDetRPNHead)
def _fold_head(head: IDaDetRPNHead, folding: 'Folding') -> nn.Module:
    """The PReLU goes into the convolution."""
    packed = folding.row([head.rpn_conv, head.prelu])
    if packed is not None:
        head.rpn_conv, head.prelu = packed, nn.Identity()
    return head
