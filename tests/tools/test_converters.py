"""Official state dicts by their documented names, and official forwards."""
import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from golden import golden
from integration.small_runs import faster_rcnn
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import build_subject
from mmcompress.binary.backbones.bi_resnet import BiBlock
from mmcompress.binary.converters import (convert_official, official_weights,
                                          rename)
from mmcompress.model.config import read_config

TOOL = Path(__file__).parents[2].joinpath('tools', 'model_converters',
                                          'official_1bit.py')
# the official name of the convolution's weight, and of its scale
NAMES = dict(
    bireal=('binary_conv.weights', None),
    react=('binary_conv.weight', None),
    rebnn=('binary_conv.weight', 'binary_conv.scaling_factor'),
    rbonn=('binary_conv.weight', 'binary_conv.scale_factor'),
    ida_det=('conv.weight', 'conv.scale'))
CONVS = dict(
    bireal='BiRealConv2d',
    react='ReActConv2d',
    rebnn='ReBNNConv2d',
    rbonn='RBONNConv2d',
    ida_det='IDaDetConv2d')
CLASSIFIERS = ['bireal', 'react', 'rebnn', 'rbonn']

# ---- The official forward, transcribed -------------------------------------


def norm(state, name, x):
    return F.batch_norm(
        x,
        *(state[f'{name}.{key}']
          for key in ('running_mean', 'running_var', 'weight', 'bias')))


def binary_conv(state, name, method, x, stride=1):
    """Signs of the input times scaled signs of the weight, zero padding."""
    weight_name, scale_name = NAMES[method]
    weight = state[f'{name}.{weight_name.split(".")[1]}']
    if method == 'bireal':
        # flat; the channels are known to the official layer
        weight = weight.view(-1, x.shape[1], 3, 3)
    if scale_name is None:
        alpha = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    else:
        alpha = 0.02 * state[f'{name}.{scale_name.split(".")[1]}'].abs()
    return F.conv2d(x.sign(), alpha * weight.sign(), state.get(f'{name}.bias'),
                    stride, 1)


def official_block(state, name, method, x, stride):
    conv = f'{name}.{NAMES[method][0].split(".")[0]}'
    shifted = x if method == 'bireal' else x + state[f'{name}.move0.bias']
    out = norm(state, f'{name}.bn1',
               binary_conv(state, conv, method, shifted, stride))
    if f'{name}.downsample.1.weight' in state:
        pooled = F.avg_pool2d(x, 2, 2, ceil_mode=method == 'ida_det')
        x = norm(state, f'{name}.downsample.2',
                 F.conv2d(pooled, state[f'{name}.downsample.1.weight']))
    out = out + x
    if method == 'bireal':
        return out
    out = out + state[f'{name}.move1.bias']
    out = F.prelu(out, state[f'{name}.prelu.weight'])
    return out + state[f'{name}.move2.bias']


def official_stages(state, method, x, prefix=''):
    x = F.conv2d(x, state[f'{prefix}conv1.weight'], None, 2, 3)
    x = F.max_pool2d(norm(state, f'{prefix}bn1', x), 3, 2, 1)
    outs = []
    for stage in range(1, 5):
        for block in range(4):
            stride = 2 if stage > 1 and block == 0 else 1
            x = official_block(state, f'{prefix}layer{stage}.{block}', method,
                               x, stride)
        outs.append(x)
    return outs


# ---- Official state dicts, made up -----------------------------------------


class Maker:
    """Random weights by name."""

    def __init__(self):
        self.state = {}
        self.generator = torch.Generator().manual_seed(0)

    def add(self, name, *shape):
        self.state[name] = torch.randn(shape, generator=self.generator)

    def add_norm(self, name, channels):
        for key in ('weight', 'bias', 'running_mean'):
            self.add(f'{name}.{key}', channels)
        self.state[f'{name}.running_var'] = torch.rand(
            channels, generator=self.generator) + 0.5

    def add_conv(self, name, method, inputs, outputs):
        weight, scale = NAMES[method]
        shape = (outputs, inputs, 3, 3)
        if method == 'bireal':
            shape = (outputs * inputs * 9, 1)
        self.add(f'{name}.{weight.split(".")[1]}', *shape)
        if scale:
            self.add(f'{name}.{scale.split(".")[1]}', outputs, 1, 1, 1)
        if method == 'rbonn':
            self.add(f'{name}.u', outputs, 1, 1, 1)
        if method == 'ida_det':
            self.add(f'{name}.bias', outputs)

    def add_resnet(self, method, prefix='', base=8):
        self.add(f'{prefix}conv1.weight', base, 3, 7, 7)
        self.add_norm(f'{prefix}bn1', base)
        inputs = base
        for stage in range(4):
            outputs = base * 2**stage
            for block in range(4):
                name = f'{prefix}layer{stage + 1}.{block}'
                conv = NAMES[method][0].split('.')[0]
                self.add_conv(f'{name}.{conv}', method, inputs, outputs)
                self.add_norm(f'{name}.bn1', outputs)
                if method != 'bireal':
                    self.add(f'{name}.move0.bias', 1, inputs, 1, 1)
                    self.add(f'{name}.move1.bias', 1, outputs, 1, 1)
                    self.add(f'{name}.move2.bias', 1, outputs, 1, 1)
                    self.add(f'{name}.prelu.weight', outputs)
                if inputs != outputs:
                    self.add(f'{name}.downsample.1.weight', outputs, inputs, 1,
                             1)
                    self.add_norm(f'{name}.downsample.2', outputs)
                inputs = outputs


def official_classifier(method):
    maker = Maker()
    maker.add_resnet(method)
    maker.add('fc.weight', 5, 64)
    maker.add('fc.bias', 5)
    return maker.state


def classifier(method):
    block = method if method == 'bireal' else 'react'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            ConfigDict(
                type='mmpretrain.ImageClassifier',
                backbone=dict(
                    type='mmcompress.BiResNet',
                    depth=18,
                    base_channels=8,
                    out_indices=(3, ),
                    block=block,
                    conv_cfg=dict(type=f'mmcompress.{CONVS[method]}')),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=5,
                          in_channels=64))).eval()


def official_detector():
    maker = Maker()
    maker.add_resnet('ida_det', 'backbone.')
    for i in range(4):
        for kind, channels in (('lateral', 8 * 2**i), ('fpn', 8)):
            maker.add_conv(f'neck.{kind}_convs.{i}.conv', 'ida_det', channels,
                           8)
            maker.add(f'neck.prelu_{kind[0]}s.{i}.weight', 8)
    maker.add_conv('rpn_head.rpn_conv', 'ida_det', 8, 8)
    maker.add('rpn_head.prelu.weight', 8)
    for name, outputs in (('cls', 1), ('reg', 4)):
        maker.add(f'rpn_head.rpn_{name}.weight', outputs, 8, 1, 1)
        maker.add(f'rpn_head.rpn_{name}.bias', outputs)
    for name, outputs, inputs in (('shared_fcs.0', 16, 72), ('shared_fcs.1',
                                                             16, 16),
                                  ('fc_cls', 11, 16), ('fc_reg', 4, 16)):
        maker.add(f'roi_head.bbox_head.{name}.weight', outputs, inputs)
        maker.add(f'roi_head.bbox_head.{name}.bias', outputs)
    for level in range(5):
        maker.add(f'neck_adapt.{level}.0.weight', 8, 8, 3, 3)
        maker.add(f'neck_adapt.{level}.0.bias', 8)
    maker.add('entropy_loss.sigma', 1, 1, 1, 1)
    return maker.state


def official_rpn(state, x):
    """Scores and deltas of the 1-bit pyramid's finest level."""
    laterals = []
    for i, feature in enumerate(
            official_stages(state, 'ida_det', x, 'backbone.')):
        y = binary_conv(state, f'neck.lateral_convs.{i}.conv', 'ida_det',
                        feature)
        laterals.append(F.prelu(y, state[f'neck.prelu_ls.{i}.weight']))
    for i in range(3, 0, -1):
        laterals[i - 1] = laterals[i - 1] + F.interpolate(
            laterals[i], size=laterals[i - 1].shape[2:], mode='nearest')
    y = binary_conv(state, 'neck.fpn_convs.0.conv', 'ida_det', laterals[0])
    y = F.prelu(y, state['neck.prelu_fs.0.weight'])
    y = binary_conv(state, 'rpn_head.rpn_conv', 'ida_det', y)
    y = F.prelu(y, state['rpn_head.prelu.weight'])
    return [
        F.conv2d(y, state[f'rpn_head.rpn_{name}.weight'],
                 state[f'rpn_head.rpn_{name}.bias']) for name in ('cls', 'reg')
    ]


# (inputs, outputs, kernel) of the port's network; None: pooling
NIN = [(3, 192, 5), (192, 160, 1), (160, 96, 1), None, (96, 192, 5),
       (192, 192, 1), (192, 192, 1), None, (192, 192, 3), (192, 192, 1),
       (192, 10, 1)]
# the places of convolutions and units in its nn.Sequential
NIN_PLACES = [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13]


def official_nin():
    maker = Maker()
    for place, layer in zip(NIN_PLACES, NIN):
        if layer is None:
            continue
        inputs, outputs, kernel = layer
        name = f'xnor.{place}'
        if place not in (0, 13):
            maker.add_norm(f'{name}.bn', inputs)
            name += '.conv'
        maker.add(f'{name}.weight', outputs, inputs, kernel, kernel)
        maker.add(f'{name}.bias', outputs)
    for place in (1, 12):
        maker.add_norm(f'xnor.{place}', 192)
        # affine=False
        del maker.state[f'xnor.{place}.weight']
        del maker.state[f'xnor.{place}.bias']
    return maker.state


def nin_norm(state, name, x):
    return F.batch_norm(
        x,
        state[f'{name}.running_mean'],
        state[f'{name}.running_var'],
        state.get(f'{name}.weight'),
        state.get(f'{name}.bias'),
        eps=1e-4)


def official_nin_scores(state, x):
    """Weights are centred, clamped and binarised before the forward."""
    for place, layer in zip(NIN_PLACES, NIN):
        if layer is None:
            pool = F.max_pool2d if place == 5 else F.avg_pool2d
            x = pool(x, 3, 2, 1)
            continue
        name = f'xnor.{place}'
        padding = layer[2] // 2
        if place in (0, 13):
            if place == 13:
                x = nin_norm(state, 'xnor.12', x)
            x = F.conv2d(
                x,
                state[f'{name}.weight'],
                state[f'{name}.bias'],
                padding=padding)
            x = nin_norm(state, 'xnor.1', x) if place == 0 else x
        else:
            weight = state[f'{name}.conv.weight']
            weight = (weight - weight.mean(1, keepdim=True)).clamp(-1, 1)
            alpha = weight.abs().mean((1, 2, 3), keepdim=True)
            x = F.conv2d(
                nin_norm(state, f'{name}.bn', x).sign(),
                alpha * weight.sign(),
                state[f'{name}.conv.bias'],
                padding=padding)
        x = x.relu()
    return F.avg_pool2d(x, 8).flatten(1)


def detector():
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(ConfigDict(faster_rcnn(binary=True))).eval()


# ---- Tests -----------------------------------------------------------------


def fixture_block(case, method):
    hyper = case.hyper
    block = BiBlock(
        hyper['in_channels'],
        hyper['out_channels'],
        hyper['stride'],
        dict(type=f'mmcompress.{CONVS[method]}'),
        dict(type='BN'),
        shifts=method != 'bireal',
        bias=False)
    params = case.group('param')
    state = {
        rename(f'layer1.0.{key}', method).removeprefix('backbone.layer1.0.'):
        value
        for key, value in params.items()
    }
    state['conv.weight'] = state['conv.weight'].reshape(
        block.conv.weight.shape)
    keys = block.double().load_state_dict(state, strict=False)
    assert not keys.unexpected_keys
    assert all('num_batches' in key for key in keys.missing_keys)
    return block.eval(), {f'b.{k}': v for k, v in params.items()}


@pytest.mark.parametrize('method', CLASSIFIERS)
def test_block_of_a_fixture_runs_under_converted_names(method):
    ran = False
    for case in golden(method).args[1]:
        if case.kind != 'block' or case.hyper.get('bn_train'):
            continue
        ran = True
        block, params = fixture_block(case, method)
        x = case['in/x']
        torch.testing.assert_close(block(x), case['out/y'])
        # and so does the transcription below
        torch.testing.assert_close(
            official_block(params, 'b', method, x, case.hyper['stride']),
            case['out/y'])
    assert ran


@pytest.mark.parametrize('method', CLASSIFIERS)
def test_converted_classifier_computes_what_the_official_one_does(method):
    state = official_classifier(method)
    model = classifier(method)
    converted = convert_official(method, dict(state_dict=state), model)
    assert list(converted) == list(model.state_dict())
    model.double().load_state_dict(converted)
    x = torch.randn(2, 3, 64, 64).double()
    state = {key: value.double() for key, value in state.items()}
    feature = official_stages(state, method, x)[-1].mean((2, 3))
    expected = F.linear(feature, state['fc.weight'], state['fc.bias'])
    torch.testing.assert_close(model(x), expected)


def test_converted_detector_computes_what_the_official_one_does():
    state = official_detector()
    model = detector()
    model.double().load_state_dict(convert_official('ida_det', state, model))
    # neither side is a multiple of 32
    x = torch.randn(1, 3, 75, 101).double()
    state = {key: value.double() for key, value in state.items()}
    with torch.no_grad():
        scores, deltas = model.rpn_head(model.extract_feat(x))
    expected = official_rpn(state, x)
    torch.testing.assert_close(scores[0], expected[0])
    torch.testing.assert_close(deltas[0], expected[1])
    for key, value in model.roi_head.state_dict().items():
        torch.testing.assert_close(value, state[f'roi_head.{key}'])


def test_converted_nin_computes_what_the_xnor_port_does():
    cfg = read_config('configs/xnor/xnor_nin_cifar10.py')
    model = build_subject(cfg)
    state = official_nin()
    parallel = {f'module.{key}': value for key, value in state.items()}
    converted = convert_official('xnor',
                                 dict(best_acc=86.3, state_dict=parallel),
                                 model)
    model.double().load_state_dict(converted)
    x = torch.randn(2, 3, 32, 32).double()
    state = {key: value.double() for key, value in state.items()}
    scores = model(x)
    assert scores.abs().max() > 0
    torch.testing.assert_close(scores, official_nin_scores(state, x))


@pytest.mark.parametrize('wrap', [
    lambda state: state, lambda state: dict(state_dict=state, best_acc=1.0),
    lambda state: dict(model=state), lambda state: {
        f'module.{k}': v
        for k, v in state.items()
    }, lambda state: dict(
        epoch=3, state_dict={
            f'module.{k}': v
            for k, v in state.items()
        })
])
def test_wrappers_are_taken_off(wrap):
    state = dict(a=torch.zeros(1), b=torch.ones(2))
    assert official_weights(wrap(state)) == state


def test_every_weight_without_a_counterpart_is_listed():
    state = official_classifier('react')
    del state['layer2.1.move1.bias']
    state['layer5.0.move1.bias'] = torch.zeros(1)
    state['fc.bias'] = torch.zeros(7)
    with pytest.raises(ValueError) as error:
        convert_official('react', state, classifier('react'))
    for line in ('backbone.layer2.1.move1.bias: not in the checkpoint',
                 'layer5.0.move1.bias: the model has no', 'fc.bias: 7'):
        assert line in str(error.value)


def test_another_methods_checkpoint_is_refused():
    with pytest.raises(ValueError, match='scaling_factor'):
        convert_official('react', official_classifier('rebnn'),
                         classifier('react'))


def test_training_state_starts_afresh():
    model = classifier('rebnn')
    converted = convert_official('rebnn', official_classifier('rebnn'), model)
    assert not converted['backbone.layer1.0.conv.prev_sign'].any()


def test_zeros_in_latent_weights_are_told(monkeypatch):
    told = []
    monkeypatch.setattr('mmcompress.binary.converters.print_log',
                        lambda text, *args: told.append(text))
    state = official_classifier('react')
    convert_official('react', state, classifier('react'))
    assert not told
    state['layer1.0.binary_conv.weight'][0, 0, 0] = 0
    convert_official('react', state, classifier('react'))
    assert told[0].startswith('3 latent weights')
    assert 'backbone.layer1.0.conv' in told[0]


def test_a_file_without_weights_is_an_error():
    with pytest.raises(ValueError, match='no weights, but the keys epoch'):
        official_weights(dict(epoch=3))


def test_unknown_method_is_an_error():
    with pytest.raises(ValueError, match='bireal'):
        convert_official('binarynet', {}, torch.nn.Linear(1, 1))


# ---- The tool ---------------------------------------------------------------

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmcompress.BiResNet', depth=18, base_channels=8,
                  out_indices=(3, ), block='react'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=64))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call the tool in an empty folder with a config."""
    spec = importlib.util.spec_from_file_location('official_1bit', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    Path('config.py').write_text(CONFIG)

    def call(*arguments):
        monkeypatch.setattr('sys.argv', [str(TOOL), *arguments])
        tool.main()

    return call


def test_the_tool_writes_what_any_tool_loads(run):
    state = official_classifier('react')
    parallel = {f'module.{key}': value for key, value in state.items()}
    torch.save(
        dict(epoch=1, state_dict=parallel, optimizer={}), 'official.pth.tar')
    run('react', 'config.py', 'official.pth.tar', 'ours.pth')
    loaded = torch.load('ours.pth', weights_only=True)
    classifier('react').load_state_dict(loaded['state_dict'])


class Evil:
    """Would create a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path('ran'), )


def test_the_tool_runs_no_code_of_a_checkpoint(run):
    torch.save(
        dict(state_dict=official_classifier('react'), extra=Evil()),
        'official.pth.tar')
    with pytest.raises(Exception, match='not data'):
        run('react', 'config.py', 'official.pth.tar', 'ours.pth')
    assert not Path('ran').exists() and not Path('ours.pth').exists()
