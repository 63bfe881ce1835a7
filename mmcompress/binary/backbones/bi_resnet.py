"""ResNet with one 1-bit convolution per residual block."""
import re

import torch
import torch.nn as nn
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.registry import MODELS


class Shift(nn.Module):
    """Learnable shift of each channel, initially 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the shift to a tensor of shape (N, C, H, W)."""
        return x + self.bias


class BiBlock(nn.Module):
    """Residual block with one 1-bit 3x3 convolution.

    With the input ``x``, shifts ``m0``, ``m1``, ``m2`` and the shortcut
    ``r(x)``::

        u = bn1(conv(x + m0)) + r(x)
        y = prelu(u + m1) + m2

    The shortcut is the identity, or, where the shape changes, average pooling
    (if ``stride`` is not 1), a real 1x1 convolution and a norm layer.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the convolution.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int,
                 conv_cfg: dict, norm_cfg: dict) -> None:
        super().__init__()
        # before the convolution: mmcv's fuse_conv_bn would fold a norm that
        # follows into the latent weight, whose signs it may change
        self.bn1 = build_norm_layer(norm_cfg, out_channels)[1]
        self.move0 = Shift(in_channels)
        self.conv = build_conv_layer(
            conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1)
        self.move1 = Shift(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.move2 = Shift(out_channels)
        self.downsample = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            # without ceil_mode odd sizes don't fit the convolution's
            pool = nn.AvgPool2d(stride, stride, ceil_mode=True)
            conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            kaiming_init(conv)
            self.downsample = nn.Sequential(
                pool, conv,
                build_norm_layer(norm_cfg, out_channels)[1])

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x (Tensor): Shape (N, in_channels, H, W).

        Returns:
            Tensor: Shape (N, out_channels, H', W'), sizes divided by the
            stride and rounded up.
        """
        u = self.bn1(self.conv(self.move0(x))) + self.downsample(x)
        return self.move2(self.prelu(self.move1(u)))


def map_resnet_keys(state_dict: dict, prefix: str = '') -> dict:
    """Rename the keys of a float ResNet-18/34 to those of a ``BiResNet``.

    ``layerK.B.conv{1,2}`` and ``layerK.B.bn{1,2}`` become
    ``layerK.{2B,2B+1}.conv`` and ``.bn1``; the shortcut's ``downsample.{0,1}``
    becomes ``downsample.{1,2}`` of block 2B.

    Args:
        state_dict (dict): With the names of torchvision and mmdet.
        prefix (str): What the names begin with, such as ``'backbone.'``.

    Returns:
        dict: New names, same tensors, same order.
    """
    name = re.compile(
        re.escape(prefix) +
        r'(layer\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)')

    def rename(key: str) -> str:
        match = name.fullmatch(key)
        if match is None:
            return key
        layer, block, kind, number, rest = match.groups()
        block, number = 2 * int(block), int(number)
        if kind == 'downsample.':
            kind = f'downsample.{number + 1}'
        else:
            block += number - 1
            kind = {'conv': 'conv', 'bn': 'bn1'}[kind]
        return f'{prefix}{layer}.{block}.{kind}.{rest}'

    return {rename(key): value for key, value in state_dict.items()}


@MODELS.register_module()
class BiResNet(BaseModule):
    """1-bit ResNet of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    Every 3x3 convolution of the four stages is 1-bit and has a shortcut of its
    own, see :class:`BiBlock`. The stem (7x7 convolution, norm, max pooling,
    no activation) and the shortcuts' 1x1 convolutions are real-valued.

    A checkpoint of a float ResNet-18/34 with the names of torchvision or mmdet
    loads, see :func:`map_resnet_keys`; shifts and PReLUs, which it lacks, keep
    their values. Its BN statistics belong to real-valued convolutions, so
    training from it needs ``norm_eval=False`` and ``frozen_stages`` of at most
    0.

    Args:
        depth (int): 18 or 34.
        in_channels (int): Channels of the image.
        base_channels (int): Channels of the stem and the first stage; they
            double in each of the following ones.
        out_indices (tuple[int]): Stages whose outputs are returned, in 0..3.
        frozen_stages (int): 0 freezes the stem, i > 0 also the first i stages:
            no gradients, BN in eval mode. -1 freezes nothing.
        norm_eval (bool): Keep all BN layers in eval mode, as the official
            detection training does, which starts from a pretrained 1-bit
            backbone. Set False without one.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
        init_cfg (dict | list[dict], optional): Initialisation. Without it,
            1-bit convolutions are as their constructor leaves them, real ones
            Kaiming-normal.

    Raises:
        ValueError: On another depth, or indices outside 0..3.
    """

    blocks = {18: (4, 4, 4, 4), 34: (6, 8, 12, 6)}

    def __init__(self,
                 depth: int,
                 in_channels: int = 3,
                 base_channels: int = 64,
                 out_indices: tuple[int, ...] = (0, 1, 2, 3),
                 frozen_stages: int = -1,
                 norm_eval: bool = True,
                 conv_cfg: dict = dict(type='mmcompress.IDaDetConv2d'),
                 norm_cfg: dict = dict(type='BN', requires_grad=True),
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if depth not in self.blocks:
            raise ValueError(f'depth must be one of {list(self.blocks)}, got '
                             f'{depth}: bottlenecks have no 1-bit version')
        if not set(out_indices) <= set(range(4)):
            raise ValueError(f'out_indices must be in 0..3, got {out_indices}')
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        self.conv1 = nn.Conv2d(
            in_channels, base_channels, 7, stride=2, padding=3, bias=False)
        kaiming_init(self.conv1)
        self.bn1 = build_norm_layer(norm_cfg, base_channels)[1]
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = base_channels
        for stage, num_blocks in enumerate(self.blocks[depth]):
            outputs = base_channels * 2**stage
            layer = []
            for block in range(num_blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(
                    BiBlock(inputs, outputs, stride, conv_cfg, norm_cfg))
                inputs = outputs
            self.add_module(f'layer{stage + 1}', nn.Sequential(*layer))
        self.train()

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        if f'{prefix}layer1.0.conv2.weight' in state_dict:
            mapped = map_resnet_keys(state_dict, prefix)
            state_dict.clear()
            state_dict.update(mapped)
            for name, value in self.state_dict().items():
                if re.search(r'\.(move\d\.bias|prelu\.weight)$', name):
                    state_dict[prefix + name] = value
        super()._load_from_state_dict(state_dict, prefix, *args)

    def train(self, mode: bool = True) -> 'BiResNet':
        """Set the mode; frozen parts and, with ``norm_eval``, BN stay eval."""
        super().train(mode)
        frozen = [self.conv1, self.bn1] if self.frozen_stages >= 0 else []
        for stage in range(1, self.frozen_stages + 1):
            frozen.append(getattr(self, f'layer{stage}'))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Extract features.

        Args:
            x (Tensor): Images, shape (N, in_channels, H, W).

        Returns:
            tuple[Tensor]: The stages in ``out_indices``; stage i has
            ``base_channels * 2**i`` channels and 1 / 2**(i + 2) of the image's
            size, rounded up.
        """
        x = self.maxpool(self.bn1(self.conv1(x)))
        outs = []
        for stage in range(4):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)
