import random

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from distill.models import batch, build, detection_scope, distill, retinanet
from mmcv.cnn.bricks import DropPath

from mmcompress.distill.mode_check import check_modes, same
from mmcompress.distill.taps import Taps


class Net(nn.Module):
    """Something under the name ``part`` between two convolutions."""

    def __init__(self, part):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.part = part
        self.forwards = 0

    def forward(self, x):
        self.forwards += 1
        # as mm models do, past the hooks
        return self.part.forward(self.norm(self.stem(x)))


def check(part, tap='part', net=None):
    """Check a net; return it and how often it ran in all its copies."""
    torch.manual_seed(0)
    net = net or Net(part)
    net.eval()
    x = torch.randn(2, 3, 4, 4)
    taps = Taps(dict(loss_x=tap), net, 'teacher')
    runs = []

    def run(model):
        runs.append(model.training)
        model(x)

    with torch.no_grad(), taps.record(net) as calls:
        net(x)
    num_calls = {path: len(seen) for path, seen in calls.items()}
    check_modes(net, taps, taps.select(calls), run, num_calls)
    return net, runs


class Head(nn.Module):
    """In eval mode it multiplies the second output by a stride, as FCOS."""

    def __init__(self):
        super().__init__()
        self.cls = nn.Conv2d(4, 2, 1)
        self.reg = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        reg = self.reg(x)
        if not self.training:
            reg *= 8
        return self.cls(x), reg


@pytest.mark.parametrize('tap', ['part', 'part[1]', 'part[0:2]',
                                 ['stem', 'part[-1]']])  # yapf: disable
def test_a_head_that_means_something_else_is_refused(tap):
    with pytest.raises(ValueError) as error:
        check(Head(), tap)
    text = tap if isinstance(tap, str) else tap[1]
    assert 'losses.loss_x: part (Head) of the teacher computes something ' \
        'else in eval mode' in str(error.value)
    assert f'{text!r} means different things' in str(error.value)


def test_says_what_to_tap_instead():
    with pytest.raises(ValueError, match="Tap 'part.reg', which gives the "
                       'same in both'):  # yapf: disable
        check(Head(), 'part[1]')
    # what is overwritten in eval mode is the same as it was given
    check(Head(), ['part.reg', 'part[0]', 'part.cls@input', 'part@input'])

    class Stride(nn.Module):

        def forward(self, x):
            return x if self.training else 8 * x

    with pytest.raises(ValueError, match="Tap 'part@input', which gives"):
        check(Stride())


class Observed(nn.Module):
    """Divides by the maximum of the batch, or of those seen in training."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.register_buffer('maximum', torch.ones(()))

    def forward(self, x):
        x = self.conv(x)
        if self.training:
            self.maximum.copy_(x.max())
        return x / self.maximum


class Random(nn.Module):
    """Draws inside of a module that has parameters, too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        if self.training:
            random.random(), np.random.rand()
        return F.dropout(self.conv(x), 0.5, self.training)


class Auxiliary(nn.Module):
    """Training adds outputs."""

    def __init__(self, kind):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.kind = kind

    def forward(self, x):
        x = self.conv(x)
        if self.kind is dict:
            return dict(x=x, aux=-x) if self.training else dict(x=x)
        if self.kind is tuple:
            return (x, -x) if self.training else (x, )
        return (x, -x) if self.training else x


class Demanding(nn.Module):

    def forward(self, x):
        if self.training:
            raise KeyError('labels')
        return x


@pytest.mark.parametrize('part', [
    nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)),
    nn.Sequential(nn.Conv2d(4, 4, 1), DropPath(0.5), nn.RReLU()),
    nn.BatchNorm2d(4),
    nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, 1e-5, 0.1, 1, 1)),
    DropPath(0.5),
    Observed(),
    Random(),
    nn.Sequential(Observed(), Random()),
    Auxiliary(dict),
    Auxiliary(tuple),
    Auxiliary(None),
    Demanding(),
], ids=lambda part: type(part).__name__)  # yapf: disable
def test_raises_no_false_alarm(part):
    check(part)


def test_statistics_do_not_hide_a_difference():
    with pytest.raises(ValueError, match='part.* computes something else'):
        check(nn.Sequential(Observed(), Head()))


def test_leaves_no_trace():
    torch.manual_seed(0)
    part = nn.Sequential(Observed(), Random(), nn.BatchNorm2d(4))
    net = Net(part)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    drawn = random.getstate(), np.random.get_state()[1].copy()
    watched = []
    net.stem.register_forward_hook(lambda *_: watched.append(1))
    net.norm.register_forward_pre_hook(lambda *_: watched.append(1))
    net, runs = check(part, net=net)
    assert len(watched) == 2
    assert len(runs) > 1 and net.forwards == 1
    assert not any(module.training for module in net.modules())
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert random.getstate() == drawn[0]
    assert (np.random.get_state()[1] == drawn[1]).all()
    after = torch.get_rng_state()
    torch.manual_seed(0)
    torch.randn(2, 3, 4, 4)
    assert torch.equal(after, torch.get_rng_state())


class OwnNorm(nn.BatchNorm2d):
    """A norm that is not torch's."""


@pytest.mark.parametrize(
    'part', [nn.Dropout(0.5), DropPath(0.5),
             OwnNorm(4)], ids=str)
def test_costs_one_forward(part):
    _, runs = check(nn.Sequential(nn.Conv2d(4, 4, 1), part))
    assert runs == [True]


@pytest.mark.parametrize('other, expected', [
    (torch.ones(2) + 1e-5, True),
    (torch.ones(2) + 0.1, False),
    (torch.ones(3), False),
    ((torch.ones(2), 0), True),
    ((), False),
    (None, False),
])
def test_compares_up_to_rounding(other, expected):
    assert same(torch.ones(2), other) is expected
    assert same([torch.ones(2)], [other]) is expected


@pytest.mark.parametrize('size', [1e-6, 1e6])
def test_compares_by_the_size_of_what_is_there(size):
    values = size * torch.tensor([1.0, -2.0, 0.0])
    assert same(values, values + 1e-3 * size)
    assert not same(values, values + 0.1 * size)
    assert not same(values, 8 * values)


def test_infinite_values_compare_equal():
    scores = torch.tensor([1.0, -float('inf')])
    assert same(scores, scores.clone())
    assert not same(scores, torch.tensor([1.0, 2.0]))
    empty = torch.zeros(0, 4)
    assert same(empty, empty.clone())


# ---- in a training ---------------------------------------------------------


def fcos():
    """The usual variant, whose boxes are in strides only while training."""
    cfg = retinanet()
    head = cfg['bbox_head']
    cfg.update(
        type='mmdet.FCOS',
        bbox_head=dict(
            type='FCOSHead',
            num_classes=3,
            in_channels=16,
            feat_channels=16,
            stacked_convs=1,
            strides=head['anchor_generator']['strides'],
            norm_cfg=dict(type='GN', num_groups=4),
            norm_on_bbox=True))
    return cfg


def twins(tap, **kwargs):
    teacher = dict(cfg=fcos(), checkpoint=None, allow_random=True, **kwargs)
    loss = dict(type='mmcompress.FeatureL2Loss', student=tap, teacher=tap)
    model = build(
        distill(student=fcos(), teacher=teacher, losses=dict(loss_x=loss)))
    model.init_weights()
    return model.train()


def step(model):
    with detection_scope():
        return model(**batch(model), mode='loss')


def test_fcos_is_refused_before_the_first_step():
    model = twins('bbox_head[1]')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError, match="Tap 'bbox_head.conv_reg'"):
        step(model)
    assert all(
        torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('tap', ['bbox_head[0]', 'bbox_head.conv_reg', 'neck'])
def test_other_taps_of_it_are_not(tap):
    step(twins(tap))


def test_the_check_can_be_turned_off():
    step(twins('bbox_head[1]', check_modes=False))
