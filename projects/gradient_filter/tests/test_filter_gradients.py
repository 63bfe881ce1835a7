"""The step, on models of OpenMMLab."""
import copy
import logging
import pickle

import pytest
import torch
import torch.nn as nn
from gradient_filter import FilterGradients, GradientFilterConv2d
from mmengine.logging import MMLogger
from mmengine.model import ExponentialMovingAverage, revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch.nn.utils.parametrizations import spectral_norm

import mmcompress.compat  # noqa: F401
from mmcompress.binary import IDaDetConv2d
from mmcompress.lowbit import ReplaceConvs
from mmcompress.model.inputs import made_up_batch

CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=3,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss')))
LAST = {'backbone.layer4.*.conv?': 2}


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(copy.deepcopy(cfg))


def compress(model=CLASSIFIER, **options):
    options.setdefault('layers', LAST)
    return build(
        dict(
            type='mmcompress.Compress',
            model=model,
            steps=[dict(type='mmcompress.FilterGradients', **options)]))


def filtered(model):
    return {
        name: m.patch
        for name, m in model.named_modules()
        if isinstance(m, GradientFilterConv2d)
    }


def train_step(model, size=(64, 64)):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = made_up_batch(model, 'mmpretrain', size)
        losses = model.train()(**batch, mode='loss')
    model.parse_losses(losses)[0].backward()
    return losses


def test_patches_by_pattern():
    model = compress(
        layers={
            'backbone.layer3': 4,
            'backbone.layer4.?.conv2': 2
        },
        exclude=['backbone.layer3.*.downsample.*'])
    assert filtered(model) == {
        'backbone.layer3.0.conv1': 4,
        'backbone.layer3.0.conv2': 4,
        'backbone.layer3.1.conv1': 4,
        'backbone.layer3.1.conv2': 4,
        'backbone.layer4.0.conv2': 2,
        'backbone.layer4.1.conv2': 2
    }
    assert type(model).__name__ == 'ImageClassifier'
    assert model.state_dict().keys() == build(CLASSIFIER).state_dict().keys()


def test_layers_and_parameters_stay_the_same_objects():
    model = build(CLASSIFIER)
    # another layer of the same weight
    first, second = (model.backbone.layer4[1].conv1,
                     model.backbone.layer4[1].conv2)
    second.weight = first.weight
    model.again = first
    calls = []
    first.register_forward_hook(lambda *_: calls.append(1))
    parameters = dict(model.named_parameters())
    FilterGradients(LAST)(model)
    assert model.backbone.layer4[1].conv1 is first is model.again
    assert second.weight is first.weight
    after = dict(model.named_parameters())
    assert after.keys() == parameters.keys()
    assert all(after[name] is p for name, p in parameters.items())
    train_step(model)
    assert calls and first.weight.grad.any()


def test_the_model_can_be_copied_averaged_and_pickled():
    model = compress(norm_eval=True, freeze=['backbone.layer1'])
    average = ExponentialMovingAverage(model)
    assert filtered(average.module) == filtered(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert filtered(twin) == filtered(model)
        train_step(twin)
        assert not twin.backbone.bn1.training
        assert twin.backbone.layer1[0].conv1.weight.grad is None


def test_the_output_is_that_of_the_model_as_it_was():
    torch.manual_seed(0)
    plain = build(CLASSIFIER)
    model = compress()
    model.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(x)[0], plain.eval()(x)[0])


def test_freezing_follows_the_order_of_the_list():
    model = compress(freeze=[
        '*', '~backbone.layer4', 'backbone.layer4.0', '~backbone.layer4.0.bn1'
    ])
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(('backbone.layer4.1.', 'backbone.layer4.0.bn1.'))
    }
    train_step(model)
    assert all(
        (p.grad is not None) == p.requires_grad for p in model.parameters())


def test_without_layers_it_only_chooses_what_trains():
    model = compress(layers={}, freeze=['*', '~head'])
    assert not filtered(model)
    assert sum(p.requires_grad for p in model.parameters()) == 2


def norms(model):
    return [
        m for m in model.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm)
    ]


@pytest.mark.parametrize('norm', ['BN', 'SyncBN'])
def test_batch_norms_keep_their_statistics_in_training(norm):
    cfg = copy.deepcopy(CLASSIFIER)
    cfg['backbone']['norm_cfg'] = dict(type=norm)
    # which makes other norms of those of several processes
    model = revert_sync_batchnorm(compress(cfg, norm_eval=True))
    train_step(model)
    assert len(norms(model)) == 20
    assert not any(m.training for m in norms(model)) and model.head.training
    assert all(not m.running_mean.any() for m in norms(model))
    plain = compress(norm_eval=False)
    train_step(plain)
    assert all(m.running_mean.any() for m in norms(plain))


def test_a_student_learns_from_a_teacher():
    student = dict(
        type='mmcompress.Compress',
        model=CLASSIFIER,
        steps=[
            dict(
                type='mmcompress.FilterGradients',
                layers=LAST,
                freeze=['backbone', '~backbone.layer4'],
                norm_eval=True)
        ])
    model = build(
        dict(
            type='mmcompress.Distill',
            student=student,
            teacher=dict(cfg=CLASSIFIER, allow_random=True),
            losses=dict(
                loss_kd=dict(
                    type='mmcompress.KDLoss',
                    student='head.fc',
                    teacher='head.fc',
                    tau=2.0,
                    loss_weight=1.0))))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model.init_weights()
    # norms behind a residual branch start at zero, and pass no gradient
    model.backbone.layer4[1].bn2.weight.data.fill_(1)
    assert 'loss_kd' in train_step(model)
    grad = model.backbone.layer4[1].conv1.weight.grad
    torch.testing.assert_close(grad, grad[..., :1, :1].expand(-1, -1, 3, 3))
    assert grad.any() and not any(m.training for m in norms(model))
    assert model.backbone.layer1[0].conv1.weight.grad is None


def low_bit(model):
    ReplaceConvs(
        dict(type='mmcompress.IDaDetConv2d'), ['backbone.layer4.1.conv1'])(
            model)
    return 'IDaDetConv2d is a low-bit layer'


def transposed(model):
    model.backbone.layer4[1].conv1 = nn.ConvTranspose2d(32, 32, 3, padding=1)
    return 'ConvTranspose2d is no Conv2d'


def one_dimension(model):
    model.backbone.layer4[1].conv1 = nn.Conv1d(32, 32, 3, padding=1)
    return 'Conv1d is no Conv2d'


def grouped(model):
    model.backbone.layer4[1].conv1 = nn.Conv2d(32, 32, 3, padding=1, groups=4)
    return 'groups=4'


def unpadded(model):
    model.backbone.layer4[1].conv1 = nn.Conv2d(32, 32, 3)
    return r'padding=\(0, 0\)'


def parametrized(model):
    spectral_norm(model.backbone.layer4[1].conv1)
    return 'conv1: its weight is computed by a parametrization'


class _Squared(nn.Conv2d):

    def forward(self, x):
        return super().forward(x).square()


def other_forward(model):
    model.backbone.layer4[1].conv1 = _Squared(32, 32, 3, padding=1)
    return '_Squared has a forward of its own'


def recomputing(model):
    model.backbone.layer4[1].with_cp = True
    return r'backbone\.layer4\.1 recomputes'


def twice(model):
    FilterGradients({'backbone.layer4.1.conv1': 2})(model)
    return 'filters its gradient already, with patch=2'


@pytest.mark.parametrize('spoil', [
    low_bit, transposed, one_dimension, grouped, unpadded, parametrized,
    other_forward, recomputing, twice
])
def test_what_can_not_be_filtered_is_an_error_or_stays_exact(spoil):
    model = build(CLASSIFIER)
    message = spoil(model)
    before = filtered(model)
    step = FilterGradients({'backbone.layer4': 3})
    with pytest.raises(ValueError, match=message) as error:
        step(model)
    assert "exclude=['backbone.layer4.1.conv" in str(error.value)
    assert filtered(model) == before
    FilterGradients({'backbone.layer4': 3}, unsupported='exact')(model)
    changed = filtered(model)
    assert changed['backbone.layer4.0.conv1'] == 3
    assert changed.get('backbone.layer4.1.conv1') != 3


def test_something_has_to_be_filtered():
    model = build(CLASSIFIER)
    grouped(model)
    with pytest.raises(ValueError, match='of none .*\nbackbone.*groups=4 of'):
        FilterGradients({'backbone.layer4.1.conv1': 3},
                        unsupported='exact')(model)  # yapf: disable


class _Lines(logging.Handler):

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))


def test_layers_that_stay_exact_are_named_in_the_log():
    model = build(CLASSIFIER)
    grouped(model)
    logger, handler = MMLogger.get_current_instance(), _Lines()
    logger.addHandler(handler)
    FilterGradients({'backbone.layer4': 3}, unsupported='exact')(model)
    logger.removeHandler(handler)
    (level, warning), (_, table), (_, share) = handler.lines
    assert level == 'WARNING' and 'groups=4' in warning
    assert 'stay exact:\nbackbone.layer4.1.conv1: ' in warning
    assert '4 layers' in table and 'backbone.layer4.1.conv1 ' not in table
    assert '| backbone.layer4.1.conv2 ' in table
    assert share == '37,991 of 37,991 parameters train'


@pytest.mark.parametrize('options, error, message', [
    (dict(layers={'backbon.layer4': 2}), ValueError,
     "^layers: 'backbon.layer4' selects no Conv2d .*backbone.layer4"),
    (dict(layers={'head': 2}), ValueError, "'head' selects no Conv2d"),
    (dict(exclude=['backbone.layer3']), ValueError,
     "exclude: 'backbone.layer3' selects none of what layers select"),
    (dict(exclude=['backbone']), ValueError, 'takes away everything'),
    (dict(layers={}, exclude=['backbone'],
          norm_eval=True), ValueError, 'no layers to exclude from'),
    (dict(layers={
        'backbone.layer4': 2,
        'backbone.layer4.1': 4
    }), ValueError, "'backbone.layer4' wants patch=2 of backbone.layer4.1."
     "conv1, and 'backbone.layer4.1' patch=4"),
    (dict(freeze=['neck.conv']), ValueError,
     "^freeze: 'neck.conv' selects no Module"),
    (dict(freeze='*'), TypeError, r"freeze must .* such as \['\*'\]"),
    (dict(exclude='backbone'), TypeError, r"exclude must .*\['backbone'\]"),
    (dict(layers={}), ValueError, 'nothing to do'),
    (dict(layers=['backbone.layer4']), TypeError, 'must be a dict'),
    (dict(layers={'backbone.layer4': 0}), ValueError, 'got 0'),
    (dict(unsupported='skip'), ValueError, "'skip' is none of 'error'"),
])
def test_refuses_options_that_say_nothing(options, error, message):
    with pytest.raises(error, match=message):
        FilterGradients(**{'layers': LAST, **options})(build(CLASSIFIER))


def test_norm_eval_of_a_model_without_batch_norms():
    with pytest.raises(ValueError, match='Sequential has no batch norms'):
        FilterGradients({'0': 2}, norm_eval=True)(
            nn.Sequential(nn.Conv2d(1, 1, 1)))


def test_later_steps_do_not_take_such_layers_for_ordinary_ones():
    model = compress()
    with pytest.raises(ValueError, match='GradientFilterConv2d has a forward'):
        ReplaceConvs(
            dict(type='mmcompress.IDaDetConv2d'), ['backbone.layer4'])(
                model)
    assert not any(isinstance(m, IDaDetConv2d) for m in model.modules())
