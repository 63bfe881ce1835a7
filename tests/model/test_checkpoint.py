import pytest
import torch
import torch.nn as nn
from distill.models import build, detection_scope, distill, retinanet

import mmcompress.compat  # noqa: F401
from mmcompress.analysis.subject import load_weights
from mmcompress.distill.teacher_source import load_strictly
from mmcompress.model.checkpoint import (compare, fill, plain_weights,
                                         read_checkpoint, weights_of)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


STATE = model().state_dict()
EVERY_WAY = {
    'bare': STATE,
    'of mmengine': dict(state_dict=STATE, meta=dict(), optimizer=dict()),
    'of a parallel wrapper':
    dict(state_dict={f'module.{k}': v
                     for k, v in STATE.items()}),
    'of an average of a parallel wrapper':
    dict(state_dict={f'module.module.{k}': v
                     for k, v in STATE.items()}),
    'of an average':
    dict(
        ema_state_dict={
            'steps': torch.tensor(3),
            **{f'module.{k}': v
               for k, v in STATE.items()}
        }),
    'with what a distillation needs':
    dict(state_dict={
        **STATE, 'distill.loss_x.adapter.weight': torch.zeros(2)
    }),
    'without counters of batches':
    dict(state_dict={
        k: v
        for k, v in STATE.items() if 'num_batches_tracked' not in k
    }),
    'under model': dict(model=STATE),
}  # yapf: disable


@pytest.mark.parametrize('way', EVERY_WAY)
def test_weights_are_found_however_they_are_wrapped(way):
    empty = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    fit = fill(empty, plain_weights(EVERY_WAY[way])).but()
    assert not str(fit)
    assert torch.equal(empty[0].weight, STATE['0.weight'])


def test_the_averages_are_what_mmengine_says_they_are():
    """It stores them under state_dict, and the last weights as ema's."""
    averages = dict(a=torch.ones(1))
    found = weights_of(
        dict(state_dict=averages, ema_state_dict=dict(a=torch.zeros(1))))
    assert found == averages


def test_versions_of_modules_stay_with_their_weights():
    wrapped = nn.ModuleDict(dict(module=model())).state_dict()
    assert weights_of(wrapped)._metadata == STATE._metadata


def test_a_fit_names_everything_that_does_not():
    changed = {**STATE, '0.bias': torch.zeros(4), 'new': torch.zeros(1)}
    del changed['0.weight']
    for fit in (fill(model(), changed), compare(STATE, changed)):
        assert fit.missing == ['0.weight'] and fit.left_over == ['new']
        assert len(fit.mismatched) == 1 and '0.bias' in fit.mismatched[0]
        assert 'shapes differ' in str(fit)
        assert '1 keys missing, such as 0.weight' in str(fit)
        assert '1 keys left over, such as new' in str(fit)
        # shapes always matter
        but = fit.but(['0', 'new'])
        assert but.mismatched and not but.missing and not but.left_over


def test_ignored_names_match_from_their_start():
    fit = compare(dict(neck=0, bottleneck=0), {})
    assert fit.but(['neck']).missing == ['bottleneck']


def test_only_counters_of_batches_may_always_be_missing():
    names = ['num_batches_tracked', 'a.num_batches_tracked',
             'num_batches_tracked.weight']  # yapf: disable
    fit = compare(dict.fromkeys(names), {})
    assert fit.but().missing == names[2:]


def test_errors_of_hooks_are_not_taken_for_shapes():
    net = model()

    def refuse(*args):
        raise RuntimeError('packed')

    net[1].register_load_state_dict_pre_hook(refuse)
    with pytest.raises(RuntimeError, match='^packed$'):
        fill(net, STATE)


@pytest.fixture
def save(tmp_path):

    def call(weights):
        path = str(tmp_path / 'weights.pth')
        torch.save(dict(state_dict=weights), path)
        return path

    return call


@pytest.mark.parametrize(
    'load', [lambda *a: load_strictly(*a, []), load_weights],
    ids=['teacher', 'subject'])
@pytest.mark.parametrize(
    'change',
    [
        lambda w: w,
        lambda w: {
            f'module.{k}': v
            for k, v in w.items()
        },
        lambda w: {
            k: v
            for k, v in w.items() if 'num_batches' not in k
        },
        # as mmdet renames them while loading
        lambda w: {
            k.replace('bbox_head', 'rpn_head'): v
            for k, v in w.items()
        },
        lambda w: dict(w, **{'distill.loss_x.weight': torch.zeros(1)}),
    ],
    ids=['as it is', 'module', 'no counters', 'renamed', 'distilled'])
def test_teachers_and_tools_take_the_same_checkpoints(load, change, save):
    weights = build(retinanet(), seed=4).state_dict()
    net = build(retinanet())
    with detection_scope():
        load(net, save(change(weights)))
    for key, value in net.state_dict().items():
        if 'num_batches' not in key:
            assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize(
    'load', [lambda *a: load_strictly(*a, []), load_weights],
    ids=['teacher', 'subject'])
def test_both_say_what_is_wrong(load, save):
    weights = build(retinanet(num_classes=5)).state_dict()
    net = build(retinanet())
    with pytest.raises(
            RuntimeError,
            match='does not fit RetinaNet.*shapes differ: .*retina_cls'):
        load(net, save(weights))
    del weights['neck.lateral_convs.0.conv.bias']
    with pytest.raises(RuntimeError, match='keys missing, such as neck.lat'):
        load(build(retinanet(num_classes=5)), save(weights))


def test_a_distilled_checkpoint_is_its_students(save):
    weights = build(distill()).state_dict()
    assert any(key.startswith('distill.') for key in weights)
    load_weights(build(retinanet()), save(weights))


def test_a_file_of_something_else_is_no_checkpoint(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(
            TypeError, match=r'list\.pth is no checkpoint: .* list'):
        read_checkpoint(str(tmp_path / 'list.pth'))
