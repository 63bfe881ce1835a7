from pathlib import Path

import pytest
import torch
import torch.nn as nn
from mmengine.config import Config
from mmpretrain.registry import MODELS

import mmcompress.compat  # noqa: F401
from mmcompress.binary import PoemConv1d, PoemLinear, PointNet, PointNetNeck
from mmcompress.binary.backbones.pointnet import PointUnit, TNet
from mmcompress.deploy import PackedLayer, pack
from mmcompress.lowbit import LowBitLayer

CONFIGS = Path(__file__).parents[3] / 'configs/poem'
BINARY = [None, dict(type='poem'), dict(type='xnor')]
each_binary = pytest.mark.parametrize(
    'binary', BINARY, ids=['float', 'poem', 'xnor'])


def small(binary, **kwargs):
    torch.manual_seed(0)
    return PointNet(
        binary=binary, local_channels=(8, 8), channels=(16, 24), **kwargs)


@each_binary
@pytest.mark.parametrize('with_tnet', [False, True])
def test_shapes_and_gradients(binary, with_tnet):
    backbone = small(binary, with_tnet=with_tnet)
    neck = PointNetNeck(24, (12, 10), binary=binary, dropout=0.3)
    for num_points in (1, 30):
        feats = backbone(torch.randn(4, 3, num_points))
        assert [f.shape for f in feats] == [(4, 24)]
        assert [f.shape for f in neck(feats)] == [(4, 10)]
    neck(feats)[0].sum().backward()
    # DDP waits for every gradient
    missing = [
        name for module in (backbone, neck)
        for name, p in module.named_parameters() if p.grad is None
    ]
    assert not missing


@each_binary
def test_order_of_the_points_does_not_matter(binary):
    backbone = small(binary).eval()
    points = torch.randn(2, 3, 50)
    feature, = backbone(points)
    shuffled, = backbone(points[..., torch.randperm(50)])
    torch.testing.assert_close(shuffled, feature, rtol=1e-4, atol=1e-5)
    assert feature.std() > 0


@each_binary
def test_repeated_points_do_not_matter(binary):
    backbone = small(binary, with_tnet=False).eval()
    points = torch.randn(2, 3, 20)
    twice = torch.cat([points, points[..., :7]], -1)
    torch.testing.assert_close(backbone(twice), backbone(points))


def test_first_and_last_layers_are_real():
    backbone = PointNet(binary=dict(type='poem'))
    real = {
        name: tuple(module.weight.shape)
        for name, module in backbone.named_modules()
        if type(module) in (nn.Conv1d, nn.Linear)
    }
    assert real == {
        'input_tnet.first.fc': (64, 3, 1),
        'input_tnet.fc': (9, 256),
        'feature_tnet.fc': (4096, 256),
        'first.fc': (64, 3, 1),
    }
    binary = [
        tuple(module.weight.shape[:2]) for module in backbone.modules()
        if isinstance(module, (PoemConv1d, PoemLinear))
    ]
    assert binary == [
        (128, 64), (1024, 128), (512, 1024), (256, 512),
        (64, 64), (128, 64), (1024, 128), (512, 1024), (256, 512),
        (64, 64), (64, 64), (128, 64), (1024, 128)
    ]  # yapf: disable


def test_a_new_tnet_changes_nothing():
    tnet = TNet(5).eval()
    points = torch.randn(2, 5, 9)
    torch.testing.assert_close(tnet(points), points)


def test_tnet_multiplies_each_point_with_the_matrix():
    tnet = TNet(3).eval()
    tnet.fc.bias.data.copy_(torch.arange(9.))
    points = torch.randn(1, 3, 4)
    matrix = torch.arange(9.).view(3, 3)
    expected = torch.stack([matrix @ p for p in points[0].T], -1)
    torch.testing.assert_close(tnet(points)[0], expected)


def test_float_checkpoints_fill_the_binary_network():
    source = small(None, act='prelu')
    target = small(dict(type='poem'))
    missing, unexpected = target.load_state_dict(
        source.state_dict(), strict=False)
    assert not unexpected
    # norms in front of signs are all that a float network lacks
    assert missing and all('.bn_in.' in key for key in missing)


def test_arguments_of_the_layer_are_passed_on():
    unit = PointUnit(4, 6, dict(type='poem', em_weight=0.25))
    assert unit.fc.em_weight == 0.25


def with_statistics(module):
    """Let its norms see data, and give them gains of any sign, also 0."""
    for bn in module.modules():
        if isinstance(bn, nn.BatchNorm1d):
            nn.init.normal_(bn.weight)
            nn.init.normal_(bn.bias)
            bn.weight.data[:2] = 0
    for _ in range(3):
        module(torch.randn(16, 3, 40))
    return module.eval()


@pytest.mark.parametrize('binary', BINARY[1:], ids=['poem', 'xnor'])
def test_packed_units_equal_the_trained_ones(binary):
    """The integers in between, too: a flipped bit would show."""
    torch.manual_seed(0)
    trained = with_statistics(
        PointNet(
            binary=binary,
            with_tnet=False,
            local_channels=(40, ),
            channels=(70, )))
    points = torch.randn(4, 3, 33)
    with torch.no_grad():
        # not their maximum over points, which hides most
        y, folded, packed = (
            model.deep(model.first(points))
            for model in (trained, *pack(trained)))
    assert torch.equal(folded, packed)
    torch.testing.assert_close(packed, y, rtol=1e-5, atol=1e-5)


def test_packed_networks_equal_their_folded_twins():
    backbone = with_statistics(small(dict(type='poem')))
    folded, packed = pack(backbone)
    points = torch.randn(4, 3, 33)
    with torch.no_grad():
        assert torch.equal(folded(points)[0], packed(points)[0])
    layers = [m for m in packed.modules() if isinstance(m, PackedLayer)]
    one_bit = [m for m in backbone.modules() if isinstance(m, LowBitLayer)]
    assert len(layers) == len(one_bit) == 12


@pytest.mark.parametrize('build, message', [
    (lambda: PointUnit(4, 6, dict(type='bit')), "'poem', 'xnor'"),
    (lambda: PointUnit(4, 6, act='gelu'), "'relu', 'prelu'"),
])
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    'config', sorted(CONFIGS.glob('*.py')), ids=lambda path: path.stem)
def test_configs_train_a_classifier(config):
    cfg = Config.fromfile(config)
    model = MODELS.build(cfg.model)
    model.init_weights()
    num_classes = cfg.model.head.num_classes
    data = dict(inputs=[torch.randn(3, 20) for _ in range(2)])
    inputs = model.data_preprocessor(data)['inputs']
    assert model(inputs).shape == (2, num_classes)
    from mmpretrain.structures import DataSample
    samples = [DataSample().set_gt_label(i) for i in (0, 4)]
    loss = model(inputs, samples, mode='loss')['loss']
    loss.backward()
    assert loss.isfinite()
    predicted = model.eval()(inputs, samples, mode='predict')
    assert predicted[0].pred_score.shape == (num_classes, )
