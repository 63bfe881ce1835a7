"""1-bit ResNets: Bi-Real, ReActNet, IDa-Det, XNOR-Net."""
import re
from functools import partial
from typing import TYPE_CHECKING

import torch.nn as nn
from mmcv.cnn import build_conv_layer, build_norm_layer
from mmengine.model import BaseModule, kaiming_init
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.lowbit import folds, refuse_packed
from mmcompress.registry import MODELS
from ..layers import ReActConv2d, Shift

if TYPE_CHECKING:
    from mmcompress.deploy.fold import Folding


def _shortcut(in_channels: int, out_channels: int, stride: int,
              norm_cfg: dict) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    kaiming_init(conv)
    return nn.Sequential(
        # without ceil_mode odd sizes don't fit the convolution's
        nn.AvgPool2d(stride, stride, ceil_mode=True),
        conv,
        build_norm_layer(norm_cfg, out_channels)[1])


class BiBlock(nn.Module):
    """Residual block with one 1-bit 3x3 convolution.

    With the input ``x``, shifts ``m0``, ``m1``, ``m2`` and the shortcut
    ``r(x)``::

        u = bn1(conv(x + m0)) + r(x)
        y = prelu(u + m1) + m2

    This is the block of ReActNet (Liu et al., ECCV 2020, arXiv:2003.03488),
    ReBNN, RBONN and IDa-Det. Without ``shifts`` it is that of Bi-Real Net (Liu
    et al., ECCV 2018, arXiv:1811.01335): ``y = bn1(conv(x)) + r(x)``.

    The shortcut is the identity, or, where the shape changes, average pooling
    (if ``stride`` is not 1), a real 1x1 convolution and a norm layer.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the convolution.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
        shifts (bool): False leaves out the shifts and the PReLU.
        bias (bool): Bias of the convolution, unless ``conv_cfg`` has one.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 stride: int,
                 conv_cfg: dict,
                 norm_cfg: dict,
                 shifts: bool = True,
                 bias: bool = True) -> None:
        super().__init__()
        # before the convolution: mmcv's fuse_conv_bn would fold a norm that
        # follows into the latent weight, whose signs it may change
        self.bn1 = build_norm_layer(norm_cfg, out_channels)[1]
        self.move0 = Shift(in_channels) if shifts else nn.Identity()
        self.conv = build_conv_layer(
            dict(dict(bias=bias), **conv_cfg),
            in_channels,
            out_channels,
            3,
            stride=stride,
            padding=1)
        if shifts and isinstance(self.conv, ReActConv2d):
            # ReActConv2d's own shift would be a second one
            self.conv.move0 = None
        self.move1 = Shift(out_channels) if shifts else nn.Identity()
        self.prelu = nn.PReLU(out_channels) if shifts else nn.Identity()
        self.move2 = Shift(out_channels) if shifts else nn.Identity()
        self.downsample = _shortcut(in_channels, out_channels, stride,
                                    norm_cfg)

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


@folds(BiBlock)
def _fold_block(block: BiBlock, folding: 'Folding') -> nn.Module | None:
    return folding.block(block, [block.move0, block.conv, block.bn1],
                         block.downsample,
                         [block.move1, block.prelu, block.move2])


class XNORBlock(nn.Module):
    """Residual block of XNOR-Net.

    Rastegari et al., ECCV 2016, arXiv:1603.05279.

    The order is norm, sign, convolution, ReLU, twice; the convolutions
    binarise their input. With the shortcut ``r(x)`` of :class:`BiBlock`::

        u = relu(conv1(norm1(x)))
        y = relu(conv2(norm2(u)) + r(x))

    Our choice: neither the paper's text nor the code that we follow has the
    residual network's blocks, so the shortcut ends before the last ReLU, as
    in a float ResNet.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        stride (int): Stride of the first convolution.
        conv_cfg (dict): Which 1-bit convolution.
        norm_cfg (dict): Which norm layer.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int,
                 conv_cfg: dict, norm_cfg: dict) -> None:
        super().__init__()
        # all norms first, for fuse_conv_bn as in BiBlock
        self.norm1 = build_norm_layer(norm_cfg, in_channels)[1]
        self.norm2 = build_norm_layer(norm_cfg, out_channels)[1]
        self.conv1 = build_conv_layer(
            conv_cfg, in_channels, out_channels, 3, stride=stride, padding=1)
        self.conv2 = build_conv_layer(
            conv_cfg, out_channels, out_channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(in_channels, out_channels, stride,
                                    norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block.

        Args:
            x (Tensor): Shape (N, in_channels, H, W).

        Returns:
            Tensor: Shape (N, out_channels, H', W'), sizes divided by the
            stride and rounded up.
        """
        u = self.relu(self.conv1(self.norm1(x)))
        return self.relu(self.conv2(self.norm2(u)) + self.downsample(x))


@folds(XNORBlock)
def _fold_xnor_block(block: XNORBlock, folding: 'Folding') -> nn.Module | None:
    main = [block.norm1, block.conv1, block.relu, block.norm2, block.conv2]
    return folding.block(block, main, block.downsample, [block.relu])


def map_resnet_keys(state_dict: dict,
                    prefix: str = '',
                    convs_per_block: int = 1) -> dict:
    """Rename the keys of a float ResNet-18/34 to those of a ``BiResNet``.

    The shortcut's ``downsample.{0,1}`` becomes ``downsample.{1,2}``. Where a
    block has one convolution, ``layerK.B.conv{1,2}`` and ``layerK.B.bn{1,2}``
    become ``layerK.{2B,2B+1}.conv`` and ``.bn1``, and the shortcut belongs to
    block 2B. Where it has two (XNOR-Net's), convolutions keep their names, and
    the blocks' norm layers, which stand elsewhere, are left out.

    Args:
        state_dict (dict): With the names of torchvision and mmdet.
        prefix (str): What the names begin with, such as ``'backbone.'``.
        convs_per_block (int): 1 or 2.

    Returns:
        dict: New names, same tensors, same order.
    """
    name = re.compile(
        re.escape(prefix) +
        r'(layer\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)')

    def rename(key: str) -> str | None:
        match = name.fullmatch(key)
        if match is None:
            return key
        layer, block, kind, number, rest = match.groups()
        block, number = int(block), int(number)
        if convs_per_block == 2 and kind == 'bn':
            return None
        if kind == 'downsample.':
            kind, number = f'downsample.{number + 1}', 1
        elif convs_per_block == 2:
            kind = f'conv{number}'
        else:
            kind = {'conv': 'conv', 'bn': 'bn1'}[kind]
        if convs_per_block == 1:
            block = 2 * block + number - 1
        return f'{prefix}{layer}.{block}.{kind}.{rest}'

    renamed = {rename(key): value for key, value in state_dict.items()}
    renamed.pop(None, None)
    return renamed


# a method's block and its convolution
_METHODS = dict(
    ida_det=(partial(BiBlock, bias=True), 'mmcompress.IDaDetConv2d'),
    react=(partial(BiBlock, bias=False), 'mmcompress.ReActConv2d'),
    bireal=(partial(BiBlock, shifts=False,
                    bias=False), 'mmcompress.BiRealConv2d'),
    xnor=(XNORBlock, 'mmcompress.XNORConv2d'))


@MODELS.register_module()
class BiResNet(BaseModule):
    """ResNet-18/34 whose 3x3 convolutions of the four stages are 1-bit.

    By ``block``, it is the network of

    - ``'ida_det'``: IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477), one
      convolution with a bias per :class:`BiBlock`,
    - ``'react'``: ReActNet (Liu et al., ECCV 2020, arXiv:2003.03488), ReBNN
      and RBONN: the same without the bias,
    - ``'bireal'``: Bi-Real Net (Liu et al., ECCV 2018, arXiv:1811.01335):
      without shifts and PReLUs,
    - ``'xnor'``: XNOR-Net (Rastegari et al., ECCV 2016, arXiv:1603.05279),
      two convolutions per :class:`XNORBlock`.

    The stem (7x7 convolution, norm, max pooling, no activation) and the
    shortcuts' 1x1 convolutions are real-valued.

    A checkpoint of a float ResNet-18/34 with the names of torchvision or mmdet
    loads, see :func:`map_resnet_keys`; what it lacks, such as shifts and
    PReLUs, keeps its values. Its BN statistics belong to real-valued
    convolutions, so training from it needs ``norm_eval=False`` and
    ``frozen_stages`` of at most 0.

    Args:
        depth (int): 18 or 34.
        in_channels (int): Channels of the image.
        base_channels (int): Channels of the stem and the first stage; they
            double in each of the following ones.
        num_stages (int): Number of stages, at most 4.
        strides (tuple[int]): Stride of the first block of each stage.
        out_indices (tuple[int], optional): Stages whose outputs are returned.
            By default all.
        frozen_stages (int): 0 freezes the stem, i > 0 also the first i stages:
            no gradients, BN in eval mode. -1 freezes nothing.
        norm_eval (bool): Keep all BN layers in eval mode, as the official
            detection training does, which starts from a pretrained 1-bit
            backbone. Set False without one.
        block (str): ``'ida_det'``, ``'react'``, ``'bireal'`` or ``'xnor'``.
        small_stem (bool): For images of about 32 pixels, as in mmpretrain's
            ``ResNet_CIFAR``: a 3x3 convolution of stride 1, no pooling.
        conv_cfg (dict, optional): Which 1-bit convolution. By default that of
            the block's method.
        norm_cfg (dict): Which norm layer.
        init_cfg (dict | list[dict], optional): Initialisation. Without it,
            1-bit convolutions are as their constructor leaves them, real ones
            Kaiming-normal.

    Raises:
        ValueError: On another depth or block, more than 4 stages, or indices
            of stages that don't exist.
    """

    # convolutions of each stage
    blocks = {18: (4, 4, 4, 4), 34: (6, 8, 12, 6)}

    def __init__(self,
                 depth: int,
                 in_channels: int = 3,
                 base_channels: int = 64,
                 num_stages: int = 4,
                 strides: tuple[int, ...] = (1, 2, 2, 2),
                 out_indices: tuple[int, ...] | None = None,
                 frozen_stages: int = -1,
                 norm_eval: bool = True,
                 block: str = 'ida_det',
                 small_stem: bool = False,
                 conv_cfg: dict | None = None,
                 norm_cfg: dict = dict(type='BN', requires_grad=True),
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if depth not in self.blocks:
            raise ValueError(f'depth must be one of {list(self.blocks)}, got '
                             f'{depth}: bottlenecks have no 1-bit version')
        if block not in _METHODS:
            raise ValueError(
                f'block must be one of {list(_METHODS)}, got {block!r}')
        if not 1 <= num_stages <= 4 or len(strides) < num_stages:
            raise ValueError(f'num_stages must be in 1..4, with a stride each,'
                             f' got {num_stages} and strides={strides}')
        if out_indices is None:
            out_indices = tuple(range(num_stages))
        if not set(out_indices) <= set(range(num_stages)):
            raise ValueError(f'out_indices must be in 0..{num_stages - 1}, '
                             f'got {out_indices}')
        self.num_stages = num_stages
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.convs_per_block = 2 if block == 'xnor' else 1

        self.conv1 = nn.Conv2d(
            in_channels,
            base_channels,
            3 if small_stem else 7,
            stride=1 if small_stem else 2,
            padding=1 if small_stem else 3,
            bias=False)
        kaiming_init(self.conv1)
        self.bn1 = build_norm_layer(norm_cfg, base_channels)[1]
        self.maxpool = nn.Identity() if small_stem else nn.MaxPool2d(
            3, stride=2, padding=1)
        build_block, conv_type = _METHODS[block]
        conv_cfg = conv_cfg or dict(type=conv_type)
        inputs = base_channels
        for stage in range(num_stages):
            outputs = base_channels * 2**stage
            layer = []
            for i in range(self.blocks[depth][stage] // self.convs_per_block):
                stride = strides[stage] if i == 0 else 1
                layer.append(
                    build_block(inputs, outputs, stride, conv_cfg, norm_cfg))
                inputs = outputs
            self.add_module(f'layer{stage + 1}', nn.Sequential(*layer))
        self.train()

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        refuse_packed(state_dict, prefix)
        # no block of ours has both of these names
        first = f'{prefix}layer1.0.'
        if {f'{first}conv2.weight', f'{first}bn1.weight'} <= set(state_dict):
            mapped = map_resnet_keys(state_dict, prefix, self.convs_per_block)
            state_dict.clear()
            state_dict.update(mapped)
            ours = re.compile(r'\.(move\d\.bias|prelu\.weight|norm\d\..+)$')
            for name, value in self.state_dict().items():
                if ours.search(name):
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
            ``base_channels * 2**i`` channels and, by default, 1 / 2**(i + 2)
            of the image's size, rounded up.
        """
        x = self.maxpool(self.bn1(self.conv1(x)))
        outs = []
        for stage in range(self.num_stages):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)


@folds(BiResNet)
def _fold_backbone(backbone: BiResNet, folding: 'Folding') -> nn.Module:
    """Stem and blocks in one row."""
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.maxpool)
    layers = list(folding.fuse_norms(stem))
    outs = []
    for stage in range(backbone.num_stages):
        blocks = getattr(backbone, f'layer{stage + 1}')
        layers += [folding.fold(block) for block in blocks]
        if stage in backbone.out_indices:
            outs.append(len(layers) - 1)
    return folding.backbone(layers, outs)
