"""Small networks with 1-bit layers, as if they were trained."""
import torch
import torch.nn as nn
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

from mmcompress.registry import MODELS


def as_if_trained(model: nn.Module) -> nn.Module:
    """Random statistics, gains of both signs, shifts and slopes."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
        elif isinstance(module, nn.PReLU):
            module.weight.data.uniform_(-0.2, 0.5)
        elif type(module).__name__ in ('Shift', 'RSign'):
            module.bias.data.normal_(0, 0.3)
    model.eval()
    return model


def bi_resnet(block: str = 'ida_det', **kwargs) -> dict:
    return dict(
        type='mmcompress.BiResNet',
        depth=18,
        base_channels=8,
        block=block,
        **kwargs)


def compressed_resnet(depth: int, conv: str, **kwargs) -> dict:
    """mmdet's ResNet; a step has made all but the stem 1-bit."""
    return dict(
        type='mmcompress.Compress',
        model=dict(
            type='mmdet.ResNet', depth=depth, base_channels=8, **kwargs),
        steps=[
            dict(
                type='ReplaceConvs',
                conv_cfg=dict(type=f'mmcompress.{conv}'),
                include=['layer*.conv*'])
        ])


def pointnet(kind: str, act: str) -> dict:
    return dict(type='mmcompress.PointNet', binary=dict(type=kind), act=act)


# name -> config and shape of an input
NETWORKS = dict(
    ida_det=(bi_resnet(), (2, 3, 65, 97)),
    react=(bi_resnet('react'), (1, 3, 64, 64)),
    rebnn=(bi_resnet('react', conv_cfg=dict(type='mmcompress.ReBNNConv2d')),
           (1, 3, 64, 64)),
    rbonn=(bi_resnet('react', conv_cfg=dict(type='mmcompress.RBONNConv2d')),
           (1, 3, 64, 64)),
    bireal=(bi_resnet('bireal'), (1, 3, 33, 64)),
    xnor=(bi_resnet('xnor'), (1, 3, 64, 64)),
    small_stem=(bi_resnet('react', small_stem=True,
                          out_indices=(3, )), (1, 3, 32, 32)),
    xnor_nin=(dict(type='mmcompress.XNORNIN'), (1, 3, 16, 16)),
    vgg=(dict(type='mmcompress.BiSSDVGG', base_channels=8), (1, 3, 300, 300)),
    resnet18=(compressed_resnet(18, 'ReActConv2d'), (1, 3, 64, 64)),
    resnet18_bidet=(compressed_resnet(18, 'BiDetConv2d'), (1, 3, 64, 64)),
    resnet50=(compressed_resnet(50, 'IDaDetConv2d'), (1, 3, 64, 64)),
    pointnet_poem=(pointnet('poem', 'prelu'), (2, 3, 20)),
    pointnet_poem_relu=(pointnet('poem', 'relu'), (2, 3, 20)),
    pointnet_xnor=(pointnet('xnor', 'prelu'), (2, 3, 20)))


def build(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """A network in eval mode, and an input."""
    cfg, shape = NETWORKS[name]
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    return as_if_trained(model), torch.randn(shape)
