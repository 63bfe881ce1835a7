"""Channels that belong together go together, and the rest stays."""
import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from distill.models import batch as retina_batch
from distill.models import build, distill, retinanet

from mmcompress.lowbit import ReplaceConvs
from mmcompress.pruning import KeepChannels, find_channels, prune_channels
from mmcompress.pruning.channel_pruning import largest_difference
from mmcompress.pruning.channels import cut_channels, mask_channels, reads
from mmcompress.pruning.criteria import choose, magnitude, score, taylor


def conv(num_in, num_out, size=1, **kwargs):
    return nn.Conv2d(num_in, num_out, size, padding=size // 2, **kwargs)


class Net(nn.Module):
    """A network in the manner of the mm libraries."""

    def __init__(self, **layers):
        super().__init__()
        self.first = nn.Sequential(conv(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        for name, layer in layers.items():
            self.add_module(name, layer)
        generator = torch.Generator().manual_seed(0)
        for tensor in self.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(
                    torch.rand(tensor.shape, generator=generator) * 0.9 + 0.1)

    def forward(self, inputs, mode='tensor', data_samples=None):
        return self.rest(self.first(inputs))


class Residual(Net):

    def rest(self, x):
        return self.head((x + self.conv(x)).relu_())


class Concat(Net):

    def rest(self, x):
        both = torch.cat([self.left(x), x, self.right(x)], 1)
        return self.head(F.interpolate(self.norm(both), scale_factor=2))


class Excited(Net):

    def rest(self, x):
        x = self.depthwise(F.pad(x, (0, 1, 0, 1)))
        return self.head(x * F.hardsigmoid(self.excite(x.mean((2, 3), True))))


class Levels(Net):
    """A shared layer, and a norm for each level."""

    def rest(self, x):
        levels = [x, F.max_pool2d(x, 2)]
        return [
            self.head(norm(self.shared(level)).relu())
            for norm, level in zip(self.norms, levels)
        ]


class Flat(Net):

    def rest(self, x):
        return self.head(self.up(F.avg_pool2d(x, 2)).flatten(1))


class Coordinates(Net):

    def rest(self, x):
        where = torch.linspace(0, 1,
                               x.size(-1)).expand(len(x), 1, *x.shape[2:])
        return self.head(self.mid(torch.cat([x, where], 1)))


class Sequence(Net):

    def rest(self, x):
        return self.head(self.mid(x))


class Chunks(Net):

    def rest(self, x):
        left, right = self.mid(x).chunk(2, 1)
        return self.head(left * right)


class Scaled(Net):

    def __init__(self, **layers):
        super().__init__(**layers)
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))

    def rest(self, x):
        return self.head(x * self.scale)


REMOVABLE = dict(
    residual=(lambda: Residual(conv=conv(8, 8), head=conv(8, 2)), [8]),
    concat=(lambda: Concat(
        left=conv(8, 4),
        right=conv(8, 6),
        norm=nn.BatchNorm2d(18),
        head=conv(18, 2)), [8, 4, 6]),
    excited=(lambda: Excited(
        depthwise=conv(8, 8, 3, groups=8), excite=conv(8, 8), head=conv(8, 2)),
             [8]),
    levels=(lambda: Levels(
        shared=conv(8, 4),
        norms=nn.ModuleList([nn.BatchNorm2d(4),
                             nn.BatchNorm2d(4)]),
        head=conv(4, 2)), [8, 4]),
    flat=(lambda: Flat(
        up=nn.ConvTranspose2d(8, 4, 2, 2), head=nn.Linear(256, 2)), [8, 4]),
    coordinates=(lambda: Coordinates(mid=conv(9, 4), head=conv(4, 2)), [8, 4]))
FIXED = dict(
    grouped=(lambda: Sequence(mid=conv(8, 8, groups=2), head=conv(8, 2)),
             'first.0', '2 groups'),
    group_norm=(lambda: Sequence(mid=nn.GroupNorm(2, 8), head=conv(8, 2)),
                'first.0', 'GroupNorm'),
    chunks=(lambda: Chunks(mid=conv(8, 8), head=conv(4, 2)), 'mid',
            'taken apart'),
    scaled=(lambda: Scaled(head=conv(8, 2)), 'first.0', 'scale'),
    head=(lambda: Sequence(mid=conv(8, 8), head=conv(8, 2)), 'head',
          'returns'))


def batch(num=2):
    generator = torch.Generator().manual_seed(1)
    return dict(inputs=torch.randn(num, 3, 8, 8, generator=generator))


@pytest.mark.parametrize('kind', REMOVABLE)
def test_removing_channels_is_letting_them_be_0(kind):
    make, sizes = REMOVABLE[kind]
    model = make().eval()
    pruned = prune_channels(model, batch(), 0.5, 'magnitude', uniform=True)
    groups = pruned.found.groups
    assert [group.num for group in groups] == sizes
    assert [len(kept)
            for kept in pruned.kept.values()] == [num // 2 for num in sizes]
    # only what produces them: nothing that wasn't seen reads them
    silent = copy.deepcopy(model)
    with torch.no_grad():
        for group, kept in zip(groups, pruned.kept.values()):
            gone = [i for i in range(group.num) if i not in kept]
            for layer, key, dim, index in group.slots(silent):
                read = key == 'weight' and reads(layer, dim)
                if not read and key != 'running_var':
                    tensor = getattr(layer, key)
                    tensor.index_fill_(dim, index[gone].flatten(), 0)
    for other in (pruned.masked, silent):
        assert largest_difference(pruned.model, other, batch()) < 1e-5
    assert largest_difference(pruned.model, model, batch()) > 1e-3
    rebuilt = make().eval()
    KeepChannels(pruned.channels)(rebuilt)
    rebuilt.load_state_dict(pruned.model.state_dict())
    assert largest_difference(rebuilt, pruned.model, batch()) == 0
    assert repr(rebuilt) == repr(pruned.model)


@pytest.mark.parametrize('kind', FIXED)
def test_channels_that_others_count_on_stay_and_are_told_why(kind):
    make, layer, why = FIXED[kind]
    fixed = find_channels(make(), batch()).fixed
    assert why in fixed[layer]


def test_a_model_without_removable_channels_is_refused():
    model = Scaled(head=conv(8, 2))
    with pytest.raises(ValueError, match='no channel of Scaled.*first.0.*sc'):
        prune_channels(model, batch(), 0.5)


def test_excluded_layers_keep_what_they_produce():
    model = Sequence(mid=conv(8, 8), head=conv(8, 2))
    found = find_channels(model, batch(), ['mid'])
    assert [group.name for group in found.groups] == ['first.0']
    assert found.fixed['mid'] == "excluded by 'mid'"
    with pytest.raises(ValueError, match="exclude: 'neck' selects no layer"):
        find_channels(model, batch(), ['neck'])


def test_layers_with_one_weight_are_not_separated():
    model = Sequence(
        mid=nn.Sequential(conv(8, 8), conv(8, 8)), head=conv(8, 2))
    model.mid[1].weight = model.mid[0].weight
    found = find_channels(model, batch())
    assert not found.groups
    assert 'mid.0 and mid.1 share' in found.fixed['first.0']


def test_low_bit_layers_are_refused():
    model = Sequence(mid=conv(8, 8), head=conv(8, 2))
    ReplaceConvs(dict(type='mmcompress.XNORConv2d'), ['mid'])(model)
    with pytest.raises(ValueError, match='mid is low-bit.*behind'):
        find_channels(model, batch())


# ---- A real detector -------------------------------------------------------


@pytest.fixture(scope='module')
def detector():
    model = build(retinanet())
    images = retina_batch(model)
    # not chained: some backbones return None
    model.eval()
    return model, images, prune_channels(model, images, 0.5, uniform=True)


def test_a_detector_loses_channels_but_those_of_its_outputs(detector):
    model, images, pruned = detector
    assert largest_difference(pruned.model, pruned.masked, images) < 1e-5
    assert set(pruned.found.fixed) == {
        'bbox_head.retina_cls', 'bbox_head.retina_reg'
    }
    assert pruned.channels['neck.lateral_convs.0.conv'] == (4, 8)
    assert pruned.channels['backbone.bn1'] == 2
    table = pruned.table()
    assert 'neck.fpn_convs.0.conv' in table
    assert 'what the model returns' in table


def test_a_pruned_detector_is_distilled_and_quantized(detector):
    _, images, pruned = detector
    student = dict(
        type='mmcompress.Compress',
        model=retinanet(),
        steps=[
            dict(type='mmcompress.KeepChannels', channels=pruned.channels),
            dict(
                type='mmcompress.QuantizeLayers',
                weight=dict(type='LSQ', bits=8),
                activation=dict(type='LSQ', bits=8))
        ])
    losses = dict(
        loss_tiny=dict(
            type='mmcompress.TinyLoss',
            channels=3,
            student='bbox_head.retina_cls',
            teacher='bbox_head.retina_cls'))
    model = build(distill(student, losses=losses))
    model.init_weights()
    weights = pruned.model.state_dict()
    loaded = model.load_state_dict(weights, strict=False)
    assert not loaded.unexpected_keys
    loss, parts = model.parse_losses(model(**images, mode='loss'))
    loss.backward()
    assert 'loss_tiny' in parts
    assert model.backbone.conv1.weight.grad.abs().sum() > 0
    assert model.neck.fpn_convs[0].conv.out_channels == 8


# ---- Which stay ------------------------------------------------------------


def test_least_important_channels_go_wherever_they_are():
    scores = [torch.tensor([.1, .5, .2, .9]), torch.tensor([.3, .8]), None]
    kept = choose(scores, [4, 2, 3], 0.5)
    assert [k.tolist() for k in kept] == [[1, 3], [1], [0, 1, 2]]


def test_each_group_keeps_its_floor():
    scores = [torch.tensor([.1, .2, .3, .4]), torch.tensor([.5, .6, .7, .8])]
    for floor, expected in ((0.1, [[3], [1, 2, 3]]), (0.5, [[2, 3], [2, 3]])):
        kept = choose(scores, [4, 4], 0.5, floor=floor)
        assert [k.tolist() for k in kept] == expected
    with pytest.raises(ValueError, match='less than floor=0.6'):
        choose(scores, [4, 4], 0.5, floor=0.6)


def test_uniform_takes_from_every_group():
    scores = [torch.arange(8.), torch.arange(4.) + 100]
    kept = choose(scores, [8, 4], 0.25, uniform=True)
    assert [k.tolist() for k in kept] == [[2, 3, 4, 5, 6, 7], [1, 2, 3]]
    kept = choose(scores, [8, 4], 0.6, uniform=True, round_to=4)
    assert [len(k) for k in kept] == [4, 4]


@pytest.mark.parametrize('key,value', [('ratio', 0), ('ratio', 1.5),
                                       ('floor', 1), ('round_to', 0)])
def test_arguments_out_of_range_are_named(key, value):
    arguments = dict(dict(ratio=0.5), **{key: value})
    with pytest.raises(ValueError, match=f'{key}.*{value}'):
        choose([torch.rand(4)], [4], **arguments)


def test_magnitude_is_of_all_that_a_channel_has():
    model = Sequence(mid=conv(8, 4), head=conv(4, 2))
    with torch.no_grad():
        model.mid.weight[2] = model.head.weight[:, 2] = 0
        model.mid.bias[2] = 0
    group = find_channels(model, batch()).groups[1]
    values = magnitude(model, group)
    assert values[2] == 0 and values.mean() == pytest.approx(1)


class Trained(Sequence):
    """With a loss, and a factor for each channel of ``mid``."""

    def data_preprocessor(self, data, training):
        return data

    def parse_losses(self, losses):
        return losses['loss'], {}

    def forward(self, inputs, mode='tensor', data_samples=None, factor=1):
        x = self.head(self.mid(self.first(inputs)).relu() * factor)
        return dict(loss=x.square().mean()) if mode == 'loss' else x


def test_taylor_is_the_derivative_of_a_factor_before_all_that_reads():
    model = Trained(mid=conv(8, 4), head=conv(4, 2)).eval()
    groups = find_channels(model, batch()).groups
    factor = torch.ones(1, 4, 1, 1, requires_grad=True)
    model(**batch(), mode='loss', factor=factor)['loss'].backward()
    before = copy.deepcopy(model.state_dict())
    found = taylor(model, groups, [batch(), batch()])
    torch.testing.assert_close(found[1], factor.grad.flatten().abs())
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())


def test_criteria_that_have_nothing_to_look_at_are_refused():
    model = Trained(mid=conv(8, 4), head=conv(4, 2))
    groups = find_channels(model, batch()).groups
    with pytest.raises(ValueError, match='one of magnitude.*L1'):
        score(model, groups, 'L1')
    with pytest.raises(ValueError, match='needs batches'):
        score(model, groups, 'taylor')
    with pytest.raises(ValueError, match='has a batch norm'):
        score(model, groups[1:], 'bn_scale')
    assert score(model, groups, 'bn_scale')[1] is None


# ---- The step --------------------------------------------------------------


def toy():
    return Sequence(mid=conv(8, 8, groups=8), head=conv(8, 2))


@pytest.mark.parametrize(
    'channels,error,match', [
        (dict(), ValueError, 'names no layer'),
        ({
            'first.9': (3, 4)
        }, ValueError, 'no layer .first.9.; closest: first'),
        ({
            'first.2': 4
        }, TypeError, 'ReLU is no convolution'),
        ({
            'first.0': 4
        }, TypeError, 'a pair .channels read.*got 4'),
        ({
            'first.1': (8, 4)
        }, TypeError, 'one number'),
        ({
            'first.0': (3, 9)
        }, ValueError, r'\(3, 9\) can not remain of \(3, 8\)'),
        ({
            'first.0': (3, 0)
        }, ValueError, 'can not remain'),
        ({
            'mid': (4, 2)
        }, ValueError, 'depthwise'),
    ],
    ids=[
        'none', 'name', 'kind', 'number', 'pair', 'more', 'zero', 'depthwise'
    ])
def test_the_step_refuses_what_a_layer_can_not_become(channels, error, match):
    with pytest.raises(error, match=match):
        KeepChannels(channels)(toy())


def test_the_step_comes_before_quantization():
    model = Sequence(mid=conv(8, 8), head=conv(8, 2))
    ReplaceConvs(dict(type='mmcompress.XNORConv2d'), ['mid'])(model)
    with pytest.raises(TypeError, match='before the step that quantizes'):
        KeepChannels({'mid': (8, 4)})(model)


def test_what_does_not_fit_the_step_is_refused_while_loading():
    model = toy()
    KeepChannels({
        'first.0': (3, 4),
        'first.1': 4,
        'mid': (4, 4),
        'head': (4, 2)
    })(
        model)
    assert model(**batch()).shape == (2, 2, 8, 8)
    with pytest.raises(RuntimeError, match='first.0.weight.*dense'):
        model.load_state_dict(toy().state_dict())


def test_cutting_and_masking_change_nothing_else():
    model = toy()
    groups = find_channels(model, batch()).groups
    keep = [torch.arange(g.num) for g in groups]
    before = copy.deepcopy(model.state_dict())
    for change in (cut_channels, mask_channels):
        change(model, groups, keep)
        assert all(v.equal(before[k]) for k, v in model.state_dict().items())
