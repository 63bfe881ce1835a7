import pytest
import torch
import torch.nn as nn
from distill.models import build, distill, retinanet

from mmcompress.binary import IDaDetConv2d
from mmcompress.lowbit import ReplaceConvs
from mmcompress.selection import match_modules

STEP = dict(
    type='mmcompress.ReplaceConvs',
    conv_cfg=dict(type='mmcompress.IDaDetConv2d'),
    include=['backbone.layer*.conv?'])


def compress(**changes):
    return build(
        dict(
            type='mmcompress.Compress',
            model=retinanet(),
            steps=[dict(STEP, **changes)]))


def replaced(model):
    return [n for n, m in model.named_modules() if isinstance(m, IDaDetConv2d)]


def test_replaces_what_the_pattern_selects_and_keeps_names():
    model, plain = compress(), build(retinanet())
    assert type(model) is type(plain)
    names = replaced(model)
    assert len(names) == 16 and 'backbone.layer2.1.conv2' in names
    assert set(plain.state_dict()) <= set(model.state_dict())


def test_keeps_weights_and_geometry():
    model, plain = compress(), build(retinanet())
    for name in replaced(model):
        new, old = model.get_submodule(name), plain.get_submodule(name)
        assert torch.equal(new.weight, old.weight)
        assert (new.stride, new.padding) == (old.stride, old.padding)
        assert (new.bias is None) == (old.bias is None)


def test_a_name_selects_all_below_it_and_exclude_takes_away():
    names = replaced(
        compress(include=['backbone', 'neck'], exclude=['backbone.conv1']))
    assert 'backbone.conv1' not in names
    assert 'backbone.layer2.0.downsample.0' in names
    assert 'neck.fpn_convs.4.conv' in names
    assert not any(n.startswith('bbox_head') for n in names)


def test_a_float_checkpoint_loads_into_the_changed_model():
    model = compress()
    model.load_state_dict(build(retinanet(), seed=3).state_dict())


def test_survives_init_weights_and_trains():
    model = build(
        distill(
            student=dict(
                type='mmcompress.Compress', model=retinanet(), steps=[STEP])))
    model.init_weights()
    assert len(replaced(model)) == 16
    from distill.models import batch
    model.train()
    # the norms behind a residual branch start at zero, so that its
    # convolutions learn from the second step on
    model.backbone.layer2[0].norm2.weight.data.fill_(1)
    loss, _ = model.parse_losses(model(**batch(model), mode='loss'))
    loss.backward()
    conv = model.backbone.layer2[0].conv1
    assert conv.weight.grad.any() and conv.scale.grad.any()


@pytest.mark.parametrize('changes, message', [
    (dict(include=['backbon.layer1']), "include: 'backbon.layer1' selects no "
     'Conv2d of RetinaNet; closest: backbone.layer1'),
    (dict(exclude=['stem']), "exclude: 'stem'"),
    (dict(include=['neck'], exclude=['neck']), 'takes away everything'),
])
def test_patterns_that_select_nothing(changes, message):
    with pytest.raises(ValueError, match=message):
        compress(**changes)


def test_an_error_names_the_option_of_the_caller():
    with pytest.raises(ValueError, match="^freeze: 'neck' selects no Linear"):
        match_modules(
            nn.Sequential(nn.Linear(1, 1)),
            nn.Linear, ['neck'], [],
            key='freeze')


def test_keys_of_a_base_config_that_were_not_deleted():
    with pytest.raises(TypeError, match='neck.*_delete_=True'):
        build(
            dict(
                type='mmcompress.Compress',
                model=retinanet(),
                steps=[STEP],
                neck=dict(type='FPN')))


def test_the_model_is_a_plain_one():
    assert not any(
        type(m).__module__.startswith('mmcompress.builder')
        for m in compress().modules())
    assert isinstance(compress(), nn.Module)


def test_a_shared_convolution_stays_shared():

    class Head(nn.Module):

        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(4, 4, 3)
            self.b = self.a

    net = Head()
    net.h = nn.Module()
    net.h.a = net.h.b = nn.Conv2d(4, 4, 3)
    ReplaceConvs(STEP['conv_cfg'], include=['h', 'a', 'b'])(net)
    assert net.h.a is net.h.b and net.a is net.b
    assert isinstance(net.a, IDaDetConv2d)
    assert isinstance(net.h.b, IDaDetConv2d)
