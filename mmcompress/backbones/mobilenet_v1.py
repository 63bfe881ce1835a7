"""MobileNetV1, which mm's libraries lack."""
from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmcompress.registry import MODELS

# output channels and number of blocks of each stage
STAGES = ((64, 1), (128, 2), (256, 2), (512, 6), (1024, 2))


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """MobileNets (Howard et al., 2017, arXiv:1704.04861).

    A 3x3 convolution, then 13 depthwise separable convolutions; each of the
    convolutions is followed by BN and ReLU. The stages ``layer1`` to
    ``layer5`` have strides 2, 4, 8, 16 and 32.

    Args:
        widen_factor (float): Multiplies the channels of all layers.
        out_indices (Sequence[int]): Stages to return, of 0 to 4.
        norm_cfg (dict | None): Norm layers. Defaults to BN.
        init_cfg (dict | list | None): Defaults to Kaiming's initialisation of
            the convolutions.

    Raises:
        ValueError: If ``out_indices`` names a stage that doesn't exist.
    """

    def __init__(self,
                 widen_factor: float = 1.0,
                 out_indices: Sequence[int] = (4, ),
                 norm_cfg: dict | None = None,
                 init_cfg: dict | list | None = None) -> None:
        super().__init__(init_cfg or dict(type='Kaiming', layer='Conv2d'))
        if not set(out_indices) <= set(range(len(STAGES))):
            raise ValueError('out_indices are stages 0 to '
                             f'{len(STAGES) - 1}, got {tuple(out_indices)}')
        self.out_indices = out_indices
        norm_cfg = norm_cfg or dict(type='BN')
        channels = int(32 * widen_factor)
        self.conv1 = ConvModule(
            3, channels, 3, stride=2, padding=1, norm_cfg=norm_cfg)
        for stage, (out_channels, num_blocks) in enumerate(STAGES):
            blocks = []
            for i in range(num_blocks):
                blocks.append(
                    DepthwiseSeparableConvModule(
                        channels,
                        int(out_channels * widen_factor),
                        3,
                        # the first stage keeps the size
                        stride=2 if stage > 0 and i == 0 else 1,
                        padding=1,
                        norm_cfg=norm_cfg))
                channels = int(out_channels * widen_factor)
            self.add_module(f'layer{stage + 1}', nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the stages in ``out_indices``.

        Args:
            x (Tensor): Images, shape (N, 3, H, W).

        Returns:
            tuple[Tensor, ...]: Shape (N, C_i, H_i, W_i).
        """
        x = self.conv1(x)
        outs = []
        for i in range(len(STAGES)):
            x = self.get_submodule(f'layer{i + 1}')(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)
