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


def _fold_block(block: nn.Module, num_convs: int,
                folding: Folding) -> nn.Module | None:
    """A block as one operator each, or what of it can be folded."""
    main, pairs = [], {}
    for i in range(1, num_convs + 1):
        norm = getattr(block, f'norm{i}_name')
        pairs[f'conv{i}'] = norm
        main += [getattr(block, f'conv{i}'), getattr(block, norm), block.relu]
    # the last activation follows the sum
    packed = folding.block(block, main[:-1], _shortcut_of(block), main[-1:])
    if packed is None:
        folding.with_norms(block, pairs)
    return packed


@folds(*(f'{path}.BasicBlock' for path in _RESNETS))
def fold_basic_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made low-bit."""
    return _fold_block(block, 2, folding)


# the others' have no plugins
_WITH_PLUGINS = [path for path in _RESNETS if path[:5] in ('mmdet', 'mmseg')]


@folds(*(f'{path}.Bottleneck' for path in _RESNETS
         if path not in _WITH_PLUGINS))
def fold_bottleneck(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made low-bit."""
    return _fold_block(block, 3, folding)


@folds(*(f'{path}.Bottleneck' for path in _WITH_PLUGINS))
def fold_bottleneck_with_plugins(block: nn.Module,
                                 folding: Folding) -> nn.Module | None:
    """The same; plugins stand between the layers."""
    return None if block.with_plugins else fold_bottleneck(block, folding)


def _fold_inverted(block: nn.Module, layers: list[nn.Module], adds: bool,
                   folding: Folding) -> nn.Module | None:
    # 1-bit layers have been packed one by one, and their files' keys say so
    if not is_integer_conv(parts_of(layers[0])[0]):
        return None
    main = [part for layer in layers for part in parts_of(layer)]
    return folding.block(block, main, nn.Identity() if adds else None, [])


@folds('mmpretrain.models.backbones.mobilenet_v2.InvertedResidual',
       'mmpose.models.backbones.mobilenet_v2.InvertedResidual',
       'mmseg.models.utils.inverted_residual.InvertedResidual')
def fold_inverted_residual(block: nn.Module,
                           folding: Folding) -> nn.Module | None:
    """Convolutions of integers, and the sum that has no activation."""
    return _fold_inverted(block, list(block.conv), block.use_res_connect,
                          folding)


@folds('mmdet.models.layers.inverted_residual.InvertedResidual')
def fold_inverted_residual_of_mmdet(block: nn.Module,
                                    folding: Folding) -> nn.Module | None:
    """The same, unless an attention to channels stands between."""
    if block.with_se:
        return None
    layers = [block.expand_conv] if block.with_expand_conv else []
    layers += [block.depthwise_conv, block.linear_conv]
    return _fold_inverted(block, layers, block.with_res_shortcut, folding)
