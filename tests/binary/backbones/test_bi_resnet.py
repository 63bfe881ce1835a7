import copy
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmcv.cnn import fuse_conv_bn
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict

import mmcompress.compat  # noqa: F401
from mmcompress.binary import BiResNet, IDaDetConv2d
from mmcompress.binary.backbones.bi_resnet import BiBlock, XNORBlock

CONFIGS = Path(__file__).parents[3] / 'configs'
BLOCKS = ['ida_det', 'react', 'bireal', 'xnor']
BLOCK = {
    'bn1.weight', 'bn1.bias', 'bn1.running_mean', 'bn1.running_var',
    'bn1.num_batches_tracked', 'conv.weight', 'conv.bias', 'conv.scale',
    'move0.bias', 'prelu.weight', 'move1.bias', 'move2.bias'
}


def small(**kwargs):
    torch.manual_seed(0)
    return BiResNet(18, base_channels=4, **kwargs)


@pytest.fixture(scope='module')
def float_resnet():
    from mmdet.models import ResNet
    torch.manual_seed(1)
    resnet = ResNet(18, base_channels=4, stem_channels=4)
    for module in resnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5)
    return resnet


@pytest.mark.parametrize('depth, total, binary', [(18, 11_199_104, 10_985_472),
                                                  (34, 21_329_536, None)])
def test_has_the_official_number_of_parameters(depth, total, binary):
    with torch.device('meta'):
        backbone = BiResNet(depth)
    assert sum(p.numel() for p in backbone.parameters()) == total
    convs = [m for m in backbone.modules() if isinstance(m, IDaDetConv2d)]
    assert len(convs) == depth - 2
    if binary:
        assert sum(m.weight.numel() for m in convs) == binary


@pytest.mark.parametrize('config, total', [
    ('bireal/bireal_r18', 11_689_512), ('react/react_r18_step2', 11_704_424),
    ('rebnn/rebnn_r18', 11_708_264), ('rbonn/rbonn_r18', 11_712_104),
    ('rebnn/rebnn_r34', 21_834_984)])  # yapf: disable
def test_classifiers_have_the_official_number_of_parameters(config, total):
    model = Config.fromfile(CONFIGS / f'{config}.py').model
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        classifier = MODELS.build(model.get('student', model))
    assert sum(p.numel() for p in classifier.parameters()) == total


def test_names_are_the_official_ones():
    layer = small().layer2.state_dict()
    names = {key.removeprefix('1.') for key in layer if key.startswith('1.')}
    assert names == BLOCK
    shortcut = {key for key in layer if key.startswith('0.downsample')}
    assert '0.downsample.1.weight' in shortcut
    assert '0.downsample.2.running_mean' in shortcut
    assert layer['0.move0.bias'].shape == (1, 4, 1, 1)
    assert layer['0.move2.bias'].shape == (1, 8, 1, 1)


def test_odd_sizes_are_rounded_up():
    outs = small()(torch.randn(1, 3, 75, 101))
    assert [tuple(out.shape[1:]) for out in outs] == [
        (4, 19, 26), (8, 10, 13), (16, 5, 7), (32, 3, 4)]  # yapf: disable


def test_returns_the_stages_in_out_indices():
    images = torch.randn(1, 3, 64, 64)
    every, some = small().eval(), small(out_indices=(1, 3)).eval()
    for a, b in zip(some(images), every(images)[1::2], strict=True):
        assert torch.equal(a, b)


def test_batch_of_one_and_one_cell_works_in_eval_mode():
    assert small().eval()(torch.randn(1, 3, 17, 17))[-1].shape[2:] == (1, 1)


def test_frozen_stages_have_no_gradient_and_stay_in_eval_mode():
    backbone = small(frozen_stages=1, norm_eval=False).train()
    trained = {n.split('.')[0] for n, p in backbone.named_parameters()
               if p.requires_grad}  # yapf: disable
    assert trained == {'layer2', 'layer3', 'layer4'}
    assert not backbone.bn1.training
    assert not backbone.layer1[0].bn1.training
    assert backbone.layer2[0].bn1.training


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_keeps_the_running_statistics(norm_eval):
    backbone = small(norm_eval=norm_eval).train()
    before = backbone.layer4[3].bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    unchanged = torch.equal(backbone.layer4[3].bn1.running_mean, before)
    assert unchanged == norm_eval


@pytest.mark.parametrize('block', BLOCKS)
def test_every_parameter_gets_a_gradient(block):
    backbone = small(block=block)
    sum(out.square().mean() for out in backbone(torch.randn(1, 3, 64, 64)))\
        .backward()
    assert all(p.grad is not None for p in backbone.parameters())


@pytest.mark.parametrize('load', [
    lambda model, state: model.load_state_dict(state, strict=True),
    lambda model, state: load_state_dict(model, state, strict=True)
])
@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_loads_a_float_resnet_completely(float_resnet, load, prefix):
    backbone = small()
    model = nn.ModuleDict(dict(backbone=backbone)) if prefix else backbone
    source = float_resnet.state_dict()
    load(model, {prefix + key: value for key, value in source.items()})
    ours = backbone.state_dict()
    for key, origin in {
            'conv1.weight': 'conv1.weight',
            'bn1.running_var': 'bn1.running_var',
            'layer1.0.conv.weight': 'layer1.0.conv1.weight',
            'layer1.3.conv.weight': 'layer1.1.conv2.weight',
            'layer2.1.bn1.running_mean': 'layer2.0.bn2.running_mean',
            'layer2.2.bn1.weight': 'layer2.1.bn1.weight',
            'layer3.0.downsample.1.weight': 'layer3.0.downsample.0.weight',
            'layer3.0.downsample.2.running_var':
            'layer3.0.downsample.1.running_var',
    }.items():
        assert torch.equal(ours[key], source[origin]), key
    assert not ours['layer4.3.conv.bias'].any()


@pytest.mark.parametrize('block, kept, left_out', [
    ('react', {'layer1.3.conv.weight': 'layer1.1.conv2.weight',
               'layer1.3.bn1.weight': 'layer1.1.bn2.weight'}, []),
    ('bireal', {'layer2.1.bn1.running_mean': 'layer2.0.bn2.running_mean'}, []),
    ('xnor', {'layer1.1.conv2.weight': 'layer1.1.conv2.weight',
              'layer2.0.downsample.1.weight': 'layer2.0.downsample.0.weight'},
     ['layer2.0.norm1', 'layer2.0.norm2'])])  # yapf: disable
def test_other_blocks_load_a_float_resnet_too(float_resnet, block, kept,
                                              left_out):
    backbone = small(block=block)
    source = float_resnet.state_dict()
    backbone.load_state_dict(source, strict=True)
    ours = backbone.state_dict()
    for key, origin in kept.items():
        assert torch.equal(ours[key], source[origin]), key
    for norm in left_out:
        assert (ours[f'{norm}.weight'] == 1).all()
        assert not ours[f'{norm}.running_mean'].any()


def test_the_input_checkpoint_is_left_alone(float_resnet):
    source = float_resnet.state_dict()
    keys = list(source)
    load_state_dict(small(), source)
    assert list(source) == keys


@pytest.mark.parametrize('block', BLOCKS)
def test_its_own_checkpoint_is_not_renamed(block):
    source, backbone = small(block=block), small(block=block)
    for parameter in source.parameters():
        parameter.data.normal_()
    backbone.load_state_dict(source.state_dict())
    for key, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key


def test_pretrained_float_weights_come_by_init_cfg(float_resnet, tmp_path):
    file = str(tmp_path / 'resnet18.pth')
    torch.save(float_resnet.state_dict(), file)
    backbone = small(init_cfg=dict(type='Pretrained', checkpoint=file))
    backbone.init_weights()
    assert torch.equal(backbone.layer4[1].conv.weight,
                       float_resnet.layer4[0].conv2.weight)


def test_real_weights_of_the_first_step_load_into_the_second():
    cfg = dict(type='mmcompress.IDaDetConv2d', binary_weight=False)
    first, second = small(conv_cfg=cfg), small()
    assert 'layer1.0.conv.scale' not in first.state_dict()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.layer1[0].conv.weight,
                       first.layer1[0].conv.weight)


@pytest.mark.parametrize('conv', ['ReActConv2d', 'ReBNNConv2d', 'RBONNConv2d'])
def test_step_1_of_react_net_is_where_the_other_methods_start(conv):
    first = small(
        block='react',
        conv_cfg=dict(type='mmcompress.ReActConv2d', binary_weight=False))
    for parameter in first.parameters():
        parameter.data.normal_()
    cfg = dict(type=f'mmcompress.{conv}')
    second = small(block='react', conv_cfg=cfg)
    second.load_state_dict(first.state_dict(), strict=True)
    for name, parameter in first.named_parameters():
        assert torch.equal(second.get_parameter(name), parameter), name


def test_bi_real_block_is_its_formula():
    torch.manual_seed(0)
    conv = dict(type='mmcompress.BiRealConv2d')
    block = BiBlock(4, 4, 1, conv, dict(type='BN'), shifts=False, bias=False)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block.train()(x), block.bn1(block.conv(x)) + x)
    assert {name.split('.')[0] for name, _ in block.named_parameters()
            } == {'bn1', 'conv'}  # yapf: disable


def test_xnor_block_is_its_formula():
    torch.manual_seed(0)
    conv = dict(type='mmcompress.XNORConv2d')
    block = XNORBlock(4, 8, 2, conv, dict(type='BN', eps=1e-4)).eval()
    for norm in (block.norm1, block.norm2):
        norm.weight.data.uniform_(-1, 1)
        norm.bias.data.uniform_(-1, 1)
    x = torch.randn(2, 4, 5, 5)
    u = block.conv1(block.norm1(x)).clamp(min=0)
    y = block.conv2(block.norm2(u)) + block.downsample(x)
    torch.testing.assert_close(block(x), y.clamp(min=0))
    assert block.conv1.bias is not None
    assert block.norm2.eps == 1e-4


def test_the_shift_before_the_sign_is_there_once():
    cfg = dict(type='mmcompress.ReActConv2d')
    block = small(block='react', conv_cfg=cfg).layer1[0]
    shifts = [n for n, _ in block.named_parameters() if 'move0' in n]
    assert shifts == ['move0.bias']


def test_small_stem_keeps_the_size_of_small_images():
    backbone = small(
        small_stem=True, num_stages=3, strides=(1, 2, 2), block='react')
    assert [tuple(out.shape[1:]) for out in backbone(torch.randn(1, 3, 32, 32))
            ] == [(4, 32, 32), (8, 16, 16), (16, 8, 8)]  # yapf: disable
    assert not hasattr(backbone, 'layer4')


@pytest.mark.parametrize('block', BLOCKS)
def test_fusing_norm_layers_does_not_change_the_output(block):
    backbone = small(block=block).eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(-1, 1)
            module.running_mean.uniform_(-1, 1)
    fused = fuse_conv_bn(copy.deepcopy(backbone))
    assert not isinstance(fused.bn1, nn.BatchNorm2d)
    # the stem's roundings may flip single signs, so compare blocks
    x = torch.randn(1, 4, 9, 9)
    for a, b in zip(fused.layer2, backbone.layer2):
        torch.testing.assert_close(a(x), b(x), rtol=1e-4, atol=1e-5)
        x = b(x)


@pytest.mark.parametrize('wrong, named',
                         [(dict(depth=50), '50'),
                          (dict(out_indices=(4, )), '4'),
                          (dict(block='resnet'), 'resnet'),
                          (dict(num_stages=5), '5'),
                          (dict(strides=(1, 2)), r'\(1, 2\)'),
                          (dict(num_stages=2, out_indices=(2, )), r'0\.\.1')])
def test_rejects_by_name_what_it_cannot_be(wrong, named):
    with pytest.raises(ValueError, match=named):
        BiResNet(**dict(dict(depth=18), **wrong))
