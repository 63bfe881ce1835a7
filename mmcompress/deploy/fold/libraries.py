"""Which modules become packed layers, by their class."""
from itertools import accumulate

import torch.nn as nn

from ..packed_layers import PackedBackbone
from .folding import Folding, folds, fuse_float_norms, is_one_bit, read_links

_BACKBONES = 'mmcompress.binary.backbones'

_POINTS = f'{_BACKBONES}.pointnet'


def _parts(module: nn.Module) -> list[nn.Module]:
    """What a module runs in a row; itself, where it isn't known better."""
    path = f'{type(module).__module__}.{type(module).__qualname__}'
    if path == f'{_POINTS}.PointUnit' and module.is_binary:
        return [module.bn_in, *_parts(module.fc), module.bn, module.act]
    if path == 'mmcompress.binary.layers.react.RPReLU':
        return [module.move1, module.prelu, module.move2]
    if path == f'{_POINTS}._XNORUnitLayer':
        return [module.conv]
    if path == f'{_BACKBONES}.xnor_nin.XNORUnit':
        return [module.bn, module.conv, module.relu]
    return [module]


@folds(f'{_POINTS}.PointUnit', f'{_BACKBONES}.xnor_nin.XNORUnit')
def fold_unit(unit: nn.Module, folding: Folding) -> nn.Module | None:
    """Norm, sign, layer, norm, activation."""
    parts = _parts(unit)
    links, end = read_links(parts)
    return folding.layers(links) if links and end == len(parts) else None


@folds('torch.nn.modules.container.Sequential',
       'mmengine.model.base_module.Sequential')
def fold_sequential(modules: nn.Sequential, folding: Folding) -> nn.Sequential:
    """Norms, 1-bit layers, activations in a row; numbers stay."""
    children = list(modules)
    start = 0
    while start < len(children):
        rest = [_parts(child) for child in children[start:]]
        links, end = read_links(sum(rest, []))
        ends = list(accumulate(map(len, rest)))
        if links and end in ends:
            behind = start + ends.index(end) + 1
            # units take points and features, a bare layer takes images
            is_unit = len(rest[0]) > 1
            modules[start] = (
                folding.layers(links) if is_unit else folding.chain(links))
            for i in range(start + 1, behind):
                modules[i] = nn.Identity()
        else:
            behind = start + 1
            modules[start] = folding.fold(children[start])
        start = behind
    return modules


@folds('mmcv.cnn.bricks.conv_module.ConvModule')
def fold_conv_module(module: nn.Module, folding: Folding) -> nn.Module | None:
    """1-bit convolution, norm, activation."""
    if not is_one_bit(module.conv) or module.order[0] != 'conv':
        return None
    parts = dict(
        conv=module.conv,
        norm=module.norm if module.with_norm else None,
        act=module.activate if module.with_activation else None)
    children = [parts[name] for name in module.order if parts[name]]
    links, end = read_links(children)
    packed = folding.chain(links)
    rest = children[end:]
    return nn.Sequential(packed, *rest) if rest else packed


@folds(f'{_BACKBONES}.bi_resnet.BiBlock')
def fold_bi_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Shift, sign, convolution, norm, shortcut, shift, PReLU, shift."""
    return folding.block(block, [block.move0, block.conv, block.bn1],
                         block.downsample,
                         [block.move1, block.prelu, block.move2])


@folds(f'{_BACKBONES}.bi_resnet.XNORBlock')
def fold_xnor_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Norm, sign, convolution, ReLU, twice; a shortcut before the last."""
    main = [block.norm1, block.conv1, block.relu, block.norm2, block.conv2]
    return folding.block(block, main, block.downsample, [block.relu])


@folds(f'{_BACKBONES}.bi_vgg.BiVGGBlock')
def fold_bi_vgg_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Sign, convolution, norm, shortcut, PReLU."""
    shortcut = nn.Identity() if block.has_shortcut else None
    return folding.block(block, [block.conv, block.bn1], shortcut,
                         [block.prelu])


_RESNETS = [
    'mmdet.models.backbones.resnet', 'mmpretrain.models.backbones.resnet',
    'mmseg.models.backbones.resnet', 'mmpose.models.backbones.resnet'
]


def _shortcut_of(block: nn.Module) -> nn.Module:
    return nn.Identity() if block.downsample is None else block.downsample


@folds(*(f'{path}.BasicBlock' for path in _RESNETS))
def fold_basic_block(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made 1-bit."""
    return folding.block(
        block,
        [block.conv1, block.norm1, block.relu, block.conv2, block.norm2],
        _shortcut_of(block), [block.relu])


@folds(*(f'{path}.Bottleneck' for path in _RESNETS))
def fold_bottleneck(block: nn.Module, folding: Folding) -> nn.Module | None:
    """Float block whose convolutions a step has made 1-bit."""
    if getattr(block, 'with_plugins', False):
        return None
    return folding.block(block, [
        block.conv1, block.norm1, block.relu, block.conv2, block.norm2,
        block.relu, block.conv3, block.norm3
    ], _shortcut_of(block), [block.relu])


@folds(f'{_BACKBONES}.bi_resnet.BiResNet')
def fold_bi_resnet(backbone: nn.Module, folding: Folding) -> PackedBackbone:
    """Stem and blocks in one row."""
    layers = list(
        fuse_float_norms(
            nn.Sequential(backbone.conv1, backbone.bn1, backbone.maxpool)))
    outs = []
    for stage in range(backbone.num_stages):
        blocks = getattr(backbone, f'layer{stage + 1}')
        layers += [folding.fold(block) for block in blocks]
        if stage in backbone.out_indices:
            outs.append(len(layers) - 1)
    return PackedBackbone(layers, outs)


@folds(f'{_BACKBONES}.bi_vgg.BiSSDVGG')
def fold_bi_vgg(backbone: nn.Module, folding: Folding) -> PackedBackbone:
    """The layers but the placeholders, so that blocks follow each other."""
    layers, outs = [], []
    for i, layer in enumerate(backbone.features):
        if not isinstance(layer, nn.Identity):
            layers.append(folding.fold(layer))
        if i in backbone.out_feature_indices:
            outs.append(len(layers) - 1)
    return PackedBackbone(layers, outs)


def _absorb_prelu(conv: nn.Module, prelu: nn.Module,
                  folding: Folding) -> nn.Module | None:
    links, end = read_links([conv, prelu])
    return folding.chain(links) if end == 2 else None


@folds('mmcompress.binary.necks.ida_det.IDaDetFPN')
def fold_ida_det_fpn(neck: nn.Module, folding: Folding) -> nn.Module:
    """Each PReLU goes into the convolution in front of it."""
    for convs, prelus in ((neck.lateral_convs, neck.prelu_ls),
                          (neck.fpn_convs, neck.prelu_fs)):
        for i, (module, prelu) in enumerate(zip(convs, prelus)):
            packed = _absorb_prelu(module.conv, prelu, folding)
            if packed is not None:
                convs[i], prelus[i] = packed, nn.Identity()
    return neck


@folds('mmcompress.binary.heads.ida_det.IDaDetRPNHead')
def fold_ida_det_rpn(head: nn.Module, folding: Folding) -> nn.Module:
    """The PReLU goes into the convolution."""
    packed = _absorb_prelu(head.rpn_conv, head.prelu, folding)
    if packed is not None:
        head.rpn_conv, head.prelu = packed, nn.Identity()
    return head
