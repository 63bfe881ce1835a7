"""1-bit VGG for SSD: a drop-in for mmdet's ``SSDVGG``."""
import re
from typing import TYPE_CHECKING

import torch.nn as nn
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor

from mmcompress.lowbit import folds, refuse_packed
from mmcompress.registry import MODELS

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding


class BiVGGBlock(nn.Module):
    """1-bit 3x3 convolution, norm, shortcut, PReLU.

    ``y = prelu(bn1(conv(x)) + x)``; where the number of channels changes,
    ``y = prelu(bn1(conv(x)))``.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        dilation (int): Of the convolution; its padding is the same.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int,
                 conv_cfg: dict, norm_cfg: dict) -> None:
        super().__init__()
        # before the convolution: mmcv's fuse_conv_bn would fold a norm that
        # follows into the latent weight, whose signs it may change
        self.bn1 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv = build_conv_layer(
            dict(dict(bias=False), **conv_cfg),
            in_channels,
            out_channels,
            3,
            padding=dilation,
            dilation=dilation)
        self.prelu = nn.PReLU(out_channels)
        self.has_shortcut = in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x (Tensor): Shape (N, in_channels, H, W).

        Returns:
            Tensor: Shape (N, out_channels, H, W).
        """
        u = self.bn1(self.conv(x))
        return self.prelu(u + x if self.has_shortcut else u)


@folds(BiVGGBlock)
def _fold_block(block: BiVGGBlock, folding: 'Folding') -> nn.Module | None:
    shortcut = nn.Identity() if block.has_shortcut else None
    return folding.block(block, [block.conv, block.bn1], shortcut,
                         [block.prelu])


@MODELS.register_module()
class BiSSDVGG(BaseModule):
    """1-bit VGG-16 for SSD, our own design: no paper's code has one.

    The layers are those of mmdet's ``SSDVGG``, and so are their numbers in
    ``features``. The first convolution and the last, 1x1 one are real-valued;
    all other 3x3 convolutions, the dilated one included, are 1-bit and become
    a :class:`BiVGGBlock`. A PReLU follows the first convolution: after a ReLU
    nothing is left for the sign to tell apart.

    A checkpoint of a float VGG-16, such as ``open-mmlab://vgg16_caffe``,
    loads, except for the biases of what becomes 1-bit: a norm layer follows
    there. Norms and PReLUs keep their values.

    Args:
        depth (int): 11, 13, 16 or 19.
        base_channels (int): Channels of the first stage; all others are in
            proportion. 64 is VGG.
        out_feature_indices (tuple[int]): Numbers of the layers whose outputs
            are returned.
        ceil_mode (bool): Whether pooling rounds sizes up.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
        init_cfg (dict | list[dict], optional): Initialisation. Without it,
            1-bit convolutions are as their constructor leaves them, real ones
            Kaiming-normal.

    Raises:
        ValueError: On another depth, or outputs that don't exist.
    """

    # convolutions of each stage
    stages = {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4)
    }

    def __init__(self,
                 depth: int = 16,
                 base_channels: int = 64,
                 out_feature_indices: tuple[int, ...] = (22, 34),
                 ceil_mode: bool = True,
                 conv_cfg: dict = dict(type='mmcompress.IDaDetConv2d'),
                 norm_cfg: dict = dict(type='BN', requires_grad=True),
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if depth not in self.stages:
            raise ValueError(
                f'depth must be one of {list(self.stages)}, got {depth}')

        def block(inputs: int, outputs: int, dilation: int = 1) -> list:
            # an Identity where the float net has its ReLU keeps the numbers
            return [
                BiVGGBlock(inputs, outputs, dilation, conv_cfg, norm_cfg),
                nn.Identity()
            ]

        inputs = base_channels
        layers = [nn.Conv2d(3, inputs, 3, padding=1), nn.PReLU(inputs)]
        for stage, num_convs in enumerate(self.stages[depth]):
            outputs = base_channels * 2**min(stage, 3)
            for _ in range(num_convs - (stage == 0)):
                layers += block(inputs, outputs)
                inputs = outputs
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
        layers[-1] = nn.MaxPool2d(3, stride=1, padding=1)
        layers += block(inputs, 2 * inputs, dilation=6)
        layers += [nn.Conv2d(2 * inputs, 2 * inputs, 1), nn.ReLU()]
        for layer in layers:
            if type(layer) is nn.Conv2d:
                kaiming_init(layer)
        self.features = nn.Sequential(*layers)
        if not set(out_feature_indices) <= set(range(len(layers))):
            raise ValueError(f'out_feature_indices must be in 0..'
                             f'{len(layers) - 1}, got {out_feature_indices}')
        self.out_feature_indices = out_feature_indices

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        refuse_packed(state_dict, prefix)
        first = f'{prefix}features.0'
        # a float net has a ReLU, without weight, after its first convolution
        if f'{first}.weight' in state_dict and f'{prefix}features.1.weight' \
                not in state_dict:
            self._map_float_keys(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _map_float_keys(self, state_dict: dict, prefix: str) -> None:
        for i, layer in enumerate(self.features):
            name = f'{prefix}features.{i}'
            if isinstance(layer,
                          BiVGGBlock) and f'{name}.weight' in state_dict:
                state_dict[f'{name}.conv.weight'] = state_dict.pop(
                    f'{name}.weight')
                state_dict.pop(f'{name}.bias', None)
        ours = re.compile(r'\.(bn1\..+|prelu\.weight)$|^features\.1\.weight$')
        for name, value in self.state_dict().items():
            if ours.search(name):
                state_dict[prefix + name] = value

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Images, shape (N, 3, H, W).

        Returns:
            tuple[Tensor]: The outputs of the layers in
            ``out_feature_indices``. By default, for VGG-16 and images of 300 x
            300: (N, 512, 38, 38) and (N, 1024, 19, 19).
        """
        outs = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.out_feature_indices:
                outs.append(x)
        return tuple(outs)


@folds(BiSSDVGG)
def _fold_backbone(backbone: BiSSDVGG, folding: 'Folding') -> nn.Module:
    """The layers but the placeholders, so that blocks follow each other."""
    layers, outs = [], []
    for i, layer in enumerate(backbone.features):
        if not isinstance(layer, nn.Identity):
            layers.append(folding.fold(layer))
        if i in backbone.out_feature_indices:
            outs.append(len(layers) - 1)
    return folding.backbone(layers, outs)
