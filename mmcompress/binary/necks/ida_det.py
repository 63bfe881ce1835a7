"""The 1-bit feature pyramid of IDa-Det."""
from typing import TYPE_CHECKING

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.lowbit import folds
from mmcompress.registry import MODELS

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding


@MODELS.register_module()
class IDaDetFPN(BaseModule):
    """1-bit FPN of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    Laterals and outputs are 3x3 1-bit convolutions with bias, each followed
    by a PReLU. Coarser levels beyond the inputs are subsampled from the last
    output. Names in the state dict are those of the official code.

    Differs from the official code: the initial latent weights and biases are
    those of the convolution's own constructor.

    Args:
        in_channels (list[int]): Channels of the inputs, from fine to coarse.
        out_channels (int): Channels of the outputs.
        num_outs (int): Number of outputs.
        conv_cfg (dict): Which 1-bit convolution.
        init_cfg (dict | list[dict], optional): Initialisation.

    Raises:
        ValueError: If ``num_outs`` is less than the number of inputs.
    """

    def __init__(self,
                 in_channels: list[int],
                 out_channels: int,
                 num_outs: int,
                 conv_cfg: dict = dict(type='mmcompress.IDaDetConv2d'),
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if num_outs < len(in_channels):
            raise ValueError(f'num_outs={num_outs} is less than the '
                             f'{len(in_channels)} inputs')
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.lateral_convs = nn.ModuleList()
        self.fpn_convs = nn.ModuleList()
        self.prelu_ls = nn.ModuleList()
        self.prelu_fs = nn.ModuleList()
        for channels in in_channels:
            for convs, prelus, inputs in ((self.lateral_convs, self.prelu_ls,
                                           channels),
                                          (self.fpn_convs, self.prelu_fs,
                                           out_channels)):
                convs.append(
                    ConvModule(
                        inputs,
                        out_channels,
                        3,
                        padding=1,
                        conv_cfg=conv_cfg,
                        act_cfg=None))
                prelus.append(nn.PReLU(out_channels))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs (tuple[Tensor]): Shape (N, in_channels[i], H_i, W_i) each,
                from fine to coarse.

        Returns:
            tuple[Tensor]: ``num_outs`` levels with ``out_channels`` channels.
        """
        laterals = [
            prelu(conv(x)) for x, conv, prelu in zip(
                inputs, self.lateral_convs, self.prelu_ls, strict=True)
        ]
        for i in range(len(laterals) - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + F.interpolate(
                laterals[i], size=laterals[i - 1].shape[2:], mode='nearest')
        outs = [
            prelu(conv(x)) for x, conv, prelu in zip(
                laterals, self.fpn_convs, self.prelu_fs, strict=True)
        ]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)


@folds(IDaDetFPN)
def _fold_neck(neck: IDaDetFPN, folding: 'Folding') -> nn.Module:
    """Each PReLU goes into the convolution in front of it."""
    for convs, prelus in ((neck.lateral_convs, neck.prelu_ls),
                          (neck.fpn_convs, neck.prelu_fs)):
        for i, (module, prelu) in enumerate(zip(convs, prelus)):
            packed = folding.row([module.conv, prelu])
            if packed is not None:
                convs[i], prelus[i] = packed, nn.Identity()
    return neck
