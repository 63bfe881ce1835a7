import inspect
import logging
import re

import pytest
import torch
from distill.models import batch, build, detection_scope, distill, retinanet
from mmengine.logging import MMLogger
from torch import nn

from mmcompress.distill import DistillLoss, losses
from mmcompress.distill.first_steps import (STEPS, WeightCheck, check_learns,
                                            learning_taps, weight_warning)


@pytest.fixture
def warnings():
    """Warnings that are logged."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def student(**backbone):
    cfg = retinanet()
    cfg['backbone'].update(backbone)
    return cfg


def l2(tap, **kwargs):
    return dict(
        type='mmcompress.FeatureL2Loss', student=tap, teacher=tap, **kwargs)


def model_of(*losses, **kwargs):
    losses = {f'loss_{"abc"[i]}': loss for i, loss in enumerate(losses)}
    model = build(distill(losses=losses, **kwargs))
    model.init_weights()
    return model.train()


def steps(model, num=1):
    data = batch(model)
    with detection_scope():
        for _ in range(num):
            losses = model(**data, mode='loss')
    return losses


# ---- can it learn? ---------------------------------------------------------


@pytest.mark.parametrize('tap, message', [
    ('backbone.layer1', "'backbone.layer1' yields has no gradient, .*"
     'neither backbone.layer1 nor what comes before it is trained'),
    (['backbone.layer2', 'backbone.layer1'], "'backbone.layer1'"),
    ('backbone', r"'backbone' yields has no gradient in \[0\]"),
    ('backbone[0]', r"'backbone\[0\]'"),
    ('backbone.layer1@input', 'what comes before it is frozen'),
])
def test_a_frozen_stage_is_an_error(tap, message):
    with pytest.raises(ValueError, match=f'losses.loss_a: .*{message}'):
        steps(model_of(l2(tap), student=student(frozen_stages=1)))


@pytest.mark.parametrize('tap', [
    'backbone.layer2', 'backbone[1:]', 'neck', 'backbone.layer2@input'
])  # yapf: disable
def test_what_follows_a_frozen_stage_learns(tap):
    stages = 0 if tap.endswith('@input') else 1
    steps(model_of(l2(tap), student=student(frozen_stages=stages)))


def test_a_frozen_module_behind_trained_ones_is_none():
    model = model_of(l2('bbox_head.retina_cls'))
    model.bbox_head.requires_grad_(False)
    steps(model)


def test_a_student_of_which_nothing_is_trained():
    model = model_of(l2('neck'))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_('distill' in name)
    with pytest.raises(ValueError, match='all parameters of the student'):
        steps(model)


def test_a_detached_output():
    model = model_of(l2('backbone.layer1'))
    forward = model.backbone.layer1.forward
    model.backbone.layer1.forward = lambda x: forward(x).detach()
    with pytest.raises(ValueError, match='backbone.layer1 detaches it'):
        steps(model)


def test_without_gradients_nothing_is_asked():
    model = model_of(l2('backbone.layer1'), student=student(frozen_stages=1))
    with torch.no_grad():
        steps(model)
    with pytest.raises(ValueError, match='no gradient'):
        steps(model)


def test_entries_that_are_only_looked_at_need_no_gradient():
    net = nn.ModuleDict(dict(fc=nn.Linear(1, 1)))
    spec = dict(x='fc', mask='fc')
    x = torch.ones(1, requires_grad=True)
    check_learns('loss', spec, dict(x=x, mask=torch.ones(1)), ('mask', ), net)
    # nor do those of whole numbers
    check_learns('loss', ['fc'], [(x, torch.ones(1).long())], (), net)
    check_learns('loss', ['fc'], [torch.ones(1)], ('student', ), net)
    with pytest.raises(ValueError, match='reads_only'):
        check_learns('loss', spec, dict(x=x, mask=torch.ones(1)), (), net)


def test_a_frozen_peer_is_an_error():
    from distill.test_feature_autoencoder import batch_of, build
    from distill.test_mutual_distiller import mutual
    from mmengine.registry import DefaultScope
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build(mutual()).train()
        model.distill.peer.backbone.requires_grad_(False)
        with pytest.raises(ValueError, match='loss_ie_peer.*backbone.layer2'):
            model(**batch_of(model), mode='loss')


# ---- weights ---------------------------------------------------------------


def compare(ratio, num=STEPS[-1], factor=1.0, dtype=torch.float32):
    """The step in which a loss is warned of, that pulls so hard."""
    check = WeightCheck()
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    for step in range(1, num + 1):
        task, own = x.float().sum(), factor * ratio * x.float().sum()
        odd = check(
            dict(loss_cls=task / 2, loss_bbox=[task / 2], acc=100 * task),
            dict(loss_a=dict(loss_a=[own / 2, own / 2], size=own)),
            dict(loss_a=[x]), dict(loss_a=factor))
        if odd:
            assert odd == ['loss_a']
            assert check.ratio('loss_a') == pytest.approx(ratio, rel=0.01)
            return step


@pytest.mark.parametrize('ratio, step', [
    (1e6, 1), (1e3, 4), (100, 64), (31, 128), (29, None), (1, None),
    (0.011, None), (0.009, 128), (1e-3, 16), (1e-5, 1), (0, None),
])  # yapf: disable
def test_warns_the_sooner_the_worse_it_is(ratio, step):
    assert compare(ratio) == step


def test_the_ratio_is_the_mean_of_the_last_three():
    check = WeightCheck()
    check.ratios['loss_a'] = [1e9, 0.1, 10, 1000]
    assert check.ratio('loss_a') == pytest.approx(10)


def test_a_schedule_does_not_count():
    assert compare(2, factor=1e-4) is None
    assert compare(1e4, factor=1e-4) == 1
    assert compare(1, factor=0.0) is None


def test_small_gradients_survive_half_precision():
    assert compare(1e-5, dtype=torch.half) == 1


@pytest.mark.parametrize('weight', [1e6, 1e-9])
def test_a_training_warns_once_with_the_weight_that_balances(warnings, weight):
    model = model_of(l2('neck', loss_weight=weight), l2('bbox_head[0]'))
    steps(model, 2)
    message, = warnings
    ratio = model.distill.weight_check.ratio('loss_a')
    assert f'losses.loss_a pulls {ratio:.2g} times as hard at neck' in message
    assert f'loss_weight={weight / ratio:.2g}' in message
    # with this weight both pull alike
    model = model_of(l2('neck', loss_weight=weight / ratio))
    steps(model)
    assert model.distill.weight_check.ratio('loss_a') == pytest.approx(
        1, rel=0.2)


def test_is_silent_about_balanced_losses(warnings):
    weight = 1e-3
    steps(model_of(l2('neck', loss_weight=weight), l2('bbox_head[0]')), 8)
    assert not warnings


def test_can_be_turned_off(warnings):
    model = model_of(l2('neck', loss_weight=1e6), check_weights=False)
    steps(model)
    assert not warnings and model.distill.weight_check is None


def test_measures_before_what_overwrites_a_tap():
    """Behind it, at the copy, the task would have no gradient."""
    model = model_of(l2('backbone.bn1'))
    steps(model, 2)
    ratios = model.distill.weight_check.ratios['loss_a']
    assert len(ratios) == 2 and 1e-3 < ratios[1] < 1e6


def test_what_cannot_be_measured_does_not_stop_the_training():
    """Reentrant checkpointing refuses gradients of anything but leaves."""
    model = model_of(
        l2('backbone.layer1'), student=student(with_cp=True, depth=18))
    losses = steps(model)
    model.parse_losses(losses)[0].backward()
    assert model.backbone.conv1.weight.grad is not None


def test_measuring_leaves_the_gradients_alone():
    gradients = []
    for check_weights in (True, False):
        model = model_of(l2('neck'), check_weights=check_weights)
        total, _ = model.parse_losses(steps(model))
        assert model.backbone.conv1.weight.grad is None
        total.backward()
        gradients.append(model.backbone.conv1.weight.grad)
    assert torch.equal(*gradients)


def test_a_head_alone_has_nothing_to_compare_with(warnings):
    check = WeightCheck()
    x = torch.ones(1, requires_grad=True)
    own = dict(loss_a=dict(loss_a=1e6 * x.sum()))
    assert not check(dict(acc=x.sum()), own, dict(loss_a=x), dict(loss_a=1))
    assert not check.ratios


@pytest.mark.parametrize('weights, scheduled, advice', [
    (dict(alpha_fgd=1e-2, beta_fgd=5e-3), False,
     'alpha_fgd=0.0001, beta_fgd=5e-05 .times 0.01.'),
    ({}, False, "PiecewiseLinear', points=.{2}0, 0.01."),
    ({}, True, 'factors of its schedule times 0.01'),
])
def test_gives_the_weights_of_a_loss(warnings, weights, scheduled, advice):
    weight_warning('loss_a', 'neck', 100.0, weights, scheduled)
    message, = warnings
    assert re.search(advice, message)


def test_every_loss_names_arguments_that_it_is_proportional_to():
    named = 0
    for _, loss in inspect.getmembers(losses, inspect.isclass):
        if issubclass(loss, DistillLoss) and loss is not DistillLoss:
            own = 'weight_names' in vars(loss)
            known = set(loss.weight_names) <= set(
                inspect.signature(loss).parameters)
            assert known or not own, loss
            named += known
    assert named > 10


def test_where_a_loss_only_looks_the_task_does_not_count():
    tapped = dict(x=1, boxes=2)
    assert learning_taps(tapped, ('boxes', )) == dict(x=1)
    assert learning_taps(tapped, ()) == tapped
    assert learning_taps([1, 2], ('boxes', )) == [1, 2]
