import copy

import pytest
import torch
import torch.nn as nn
from mmcv.cnn import fuse_conv_bn
from mmengine.runner.checkpoint import load_state_dict

import mmcompress.compat  # noqa: F401
from mmcompress.binary.backbones import BiSSDVGG
from mmcompress.binary.backbones.bi_vgg import BiVGGBlock
from mmcompress.binary.layers import BinaryConv2d


def small(**kwargs):
    torch.manual_seed(0)
    return BiSSDVGG(16, **{'base_channels': 4, **kwargs})


@pytest.fixture(scope='module')
def ssd_vgg():
    from mmdet.models import SSDVGG
    with torch.device('meta'):
        return SSDVGG(16)


def test_layers_have_the_numbers_of_mmdets(ssd_vgg):
    with torch.device('meta'):
        ours = BiSSDVGG(16)
    pairs = zip(ours.features, ssd_vgg.features, strict=True)
    for i, (layer, theirs) in enumerate(pairs):
        if isinstance(theirs, nn.Conv2d):
            conv = layer.conv if isinstance(layer, BiVGGBlock) else layer
            assert conv.weight.shape == theirs.weight.shape, i
            assert conv.dilation == theirs.dilation
            assert conv.padding == theirs.padding
        elif isinstance(theirs, nn.MaxPool2d):
            assert repr(layer) == repr(theirs), i


def test_all_but_the_first_and_the_1x1_convolution_are_1_bit():
    backbone = small()
    binary = [
        i for i, layer in enumerate(backbone.features) if any(
            isinstance(m, BinaryConv2d) for m in layer.modules())
    ]
    real = [
        i for i, layer in enumerate(backbone.features)
        if type(layer) is nn.Conv2d
    ]
    assert binary == [2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31]
    assert real == [0, 33]


def test_shortcuts_are_where_channels_match():
    assert [
        i for i, layer in enumerate(small().features)
        if getattr(layer, 'has_shortcut', False)
    ] == [2, 7, 12, 14, 19, 21, 24, 26, 28]


@pytest.mark.parametrize('channels', [4, 8])
def test_block_is_its_formula(channels):
    torch.manual_seed(0)
    conv = dict(type='mmcompress.IDaDetConv2d')
    block = BiVGGBlock(4, channels, 6, conv, dict(type='BN')).eval()
    block.bn1.running_mean.normal_()
    x = torch.randn(2, 4, 9, 9)
    u = block.bn1(block.conv(x))
    u = u + x if channels == 4 else u
    torch.testing.assert_close(block(x), torch.where(u > 0, u, 0.25 * u))


@pytest.mark.parametrize('size', [300, 75])
def test_outputs_have_the_sizes_of_mmdets(ssd_vgg, size):
    theirs = ssd_vgg(torch.empty(1, 3, size, size, device='meta'))
    ours = small()(torch.randn(1, 3, size, size))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape[2:] == b.shape[2:]
        assert a.shape[1] * 16 == b.shape[1]


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_loads_a_float_vgg_where_keys_allow(prefix):
    torch.manual_seed(1)
    real = small(conv_cfg=dict(type='Conv2d', bias=True))
    source = {}
    for i, layer in enumerate(real.features):
        conv = getattr(layer, 'conv', layer)
        if isinstance(conv, nn.Conv2d):
            source[f'features.{i}.weight'] = torch.randn_like(conv.weight)
            source[f'features.{i}.bias'] = torch.randn_like(conv.bias)
    backbone = small()
    model = nn.ModuleDict(dict(backbone=backbone)) if prefix else backbone
    load_state_dict(
        model, {
            prefix + key: value
            for key, value in source.items()
        },
        strict=True)
    ours = backbone.state_dict()
    for key, value in source.items():
        if '.0.' in key or '.33.' in key:
            assert torch.equal(ours[key], value)
        elif key.endswith('weight'):
            key = key.replace('.weight', '.conv.weight')
            assert torch.equal(ours[key], value)
    assert (ours['features.2.bn1.weight'] == 1).all()
    assert (ours['features.1.weight'] == 0.25).all()


def test_its_own_checkpoint_is_not_renamed():
    source, backbone = small(), small()
    for parameter in source.parameters():
        parameter.data.normal_()
    backbone.load_state_dict(source.state_dict(), strict=True)
    for key, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key


def test_every_parameter_gets_a_gradient_and_norms_are_trained():
    backbone = small().train()
    outs = backbone(torch.randn(2, 3, 64, 64))
    sum(out.square().mean() for out in outs).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert backbone.features[28].bn1.running_mean.any()


def test_fusing_norm_layers_does_not_change_the_output():
    backbone = small().eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
    images = torch.randn(1, 3, 64, 64)
    fused = fuse_conv_bn(copy.deepcopy(backbone))
    for a, b in zip(fused(images), backbone(images)):
        assert torch.equal(a, b)


@pytest.mark.parametrize('wrong, named',
                         [(dict(depth=18), '18'),
                          (dict(out_feature_indices=(22, 35)), '35')])
def test_rejects_by_name_what_it_cannot_be(wrong, named):
    with pytest.raises(ValueError, match=named):
        BiSSDVGG(**dict(dict(depth=16, base_channels=4), **wrong))
