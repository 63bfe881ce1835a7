"""How blocks of other libraries fold, by the import paths of their classes.

Our own blocks say it in their own files.
"""
from itertools import accumulate

import torch.nn as nn

from mmcompress.lowbit import folds, row_of
from ..packed_layers import PackedBlock, PackedStage
from .folding import Folding
from .links import is_integer_conv, is_one_bit, parts_of, read_links


@folds('torch.nn.modules.container.Sequential',
       'mmengine.model.base_module.Sequential')
def fold_sequential(modules: nn.Sequential, folding: Folding) -> nn.Sequential:
    """Norms, 1-bit layers, activations in a row; numbers stay."""
    children = list(modules)
    start = 0
    while start < len(children):
        rest = [parts_of(child) for child in children[start:]]
        links, end = read_links(sum(rest, []))
        ends = list(accumulate(map(len, rest)))
        if links and end in ends:
            behind = start + ends.index(end) + 1
            # units take points and features, a bare layer takes images
            is_unit = len(rest[0]) > 1 and not links[0].is_integer
            modules[start] = (
                folding.layers(links) if is_unit else folding.chain(links))
            for i in range(start + 1, behind):
                modules[i] = nn.Identity()
        else:
            behind = start + 1
            modules[start] = folding.fold(children[start])
        start = behind
    blocks = list(modules)
    if len(blocks) > 1 and all(isinstance(b, PackedBlock) for b in blocks):
        return PackedStage(*blocks)
    return modules


_CONV_MODULE = 'mmcv.cnn.bricks.conv_module.ConvModule'


def _in_order(module: nn.Module) -> list[nn.Module] | None:
    """What a ConvModule runs; None if something pads in front of it."""
    if module.order[0] != 'conv' or module.with_explicit_padding:
        return None
    parts = dict(
        conv=module.conv,
        norm=module.norm if module.with_norm else None,
        act=module.activate if module.with_activation else None)
    return [parts[name] for name in module.order if parts[name]]


@row_of(_CONV_MODULE)
def _integer_row(module: nn.Module) -> list[nn.Module] | None:
    # 1-bit ones have been packed one by one, and their files' keys say so
    return _in_order(module) if is_integer_conv(module.conv) else None


@folds(_CONV_MODULE)
def fold_conv_module(module: nn.Module, folding: Folding) -> nn.Module | None:
    """Low-bit convolution, norm, activation."""
    children = _in_order(module)
    if children is None or not (is_one_bit(module.conv)
                                or is_integer_conv(module.conv)):
        return None
    links, end = read_links(children)
    packed = folding.chain(links)
    rest = children[end:]
    return nn.Sequential(packed, *rest) if rest else packed


_RESNETS = [
    'mmdet.models.backbones.resnet', 'mmpretrain.models.backbones.resnet',
    'mmseg.models.backbones.resnet', 'mmpose.models.backbones.resnet'
]


@folds(*(f'{path}.ResNet' for path in _RESNETS))
def fold_resnet(backbone: nn.Module, folding: Folding) -> None:
    """The norm and the ReLU of a stem of integers; then what is inside."""
    if backbone.deep_stem or not is_integer_conv(backbone.conv1):
        return
    row = [backbone.conv1, backbone.norm1, backbone.relu]
    links, end = read_links(row)
    backbone.conv1 = folding.chain(links)
    for name in (backbone.norm1_name, 'relu')[:end - 1]:
        setattr(backbone, name, nn.Identity())


def _shortcut_of(block: nn.Module) -> nn.Module:
    return nn.Identity() if block.downsample is None else block.downsample


@folds(*(f'{path}.BasicBlock' for path in _RESNETS))
def fold_basic_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made 1-bit."""
    return folding.block(
        block,
        [block.conv1, block.norm1, block.relu, block.conv2, block.norm2],
        _shortcut_of(block), [block.relu])


# the others' have no plugins
_WITH_PLUGINS = [path for path in _RESNETS if path[:5] in ('mmdet', 'mmseg')]


@folds(*(f'{path}.Bottleneck' for path in _RESNETS
         if path not in _WITH_PLUGINS))
def fold_bottleneck(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made 1-bit."""
    return folding.block(block, [
        block.conv1, block.norm1, block.relu, block.conv2, block.norm2,
        block.relu, block.conv3, block.norm3
    ], _shortcut_of(block), [block.relu])


@folds(*(f'{path}.Bottleneck' for path in _WITH_PLUGINS))
def fold_bottleneck_with_plugins(block: nn.Module,
                                 folding: Folding) -> nn.Module | None:
    """The same; plugins stand between the layers."""
    return None if block.with_plugins else fold_bottleneck(block, folding)
