"""The recipes of the 1-bit methods train what they should, as they should."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

import mmcompress.compat  # noqa: F401
from mmcompress.binary.layers import BinaryConv2d

CONFIGS = Path(__file__).parents[2] / 'configs'
IMAGENET = [
    'xnor/xnor_r18', 'bireal/bireal_r18', 'react/react_r18_step2',
    'rebnn/rebnn_r18', 'rbonn/rbonn_r18', 'ida_det/ida_det_pretrain_r18_step2'
]
MINI = [
    'xnor/xnor_r18_mini', 'bireal/bireal_r18_mini', 'react/react_r18_mini',
    'rebnn/rebnn_r18_mini', 'rbonn/rbonn_r18_mini',
    'ida_det/ida_det_cls_r18_mini'
]
METHODS = [
    'XNORConv2d', 'BiRealConv2d', 'ReActConv2d', 'ReBNNConv2d', 'RBONNConv2d',
    'IDaDetConv2d'
]


def read(name):
    return Config.fromfile(CONFIGS / f'{name}.py')


def build(cfg):
    model = cfg.model.get('student', cfg.model)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(model)


def convolutions(model):
    return [m for m in model.modules() if isinstance(m, BinaryConv2d)]


@pytest.mark.parametrize('name, method',
                         [*zip(IMAGENET, METHODS), *zip(MINI, METHODS)])
def test_every_convolution_is_the_methods(name, method):
    found = convolutions(build(read(name)))
    assert len(found) == (12 if name.endswith('mini') else 16)
    assert {type(conv).__name__ for conv in found} == {method}
    assert all(conv.binary_weight for conv in found)


@pytest.mark.parametrize('name, method', [
    ('rebnn/rebnn_faster-rcnn_r18_mini', 'rebnn'),
    ('rbonn/rbonn_faster-rcnn_r18_mini', 'rbonn'),
    *((f'ida_det/ida_det_r18_{method}', method)
      for method in ('xnor', 'bireal', 'react', 'rebnn', 'rbonn'))
])  # yapf: disable
def test_detectors_use_the_methods_convolution_everywhere(name, method):
    with torch.device('meta'):
        model = build(read(name))
    found = convolutions(model)
    # 16 in the backbone, 8 in the neck, 1 in the RPN
    assert len(found) == 25
    assert {type(conv).__name__.lower()
            for conv in found} == {f'{method}conv2d'}


@pytest.mark.parametrize(
    'name', ['react/react_r18_step1', 'ida_det/ida_det_pretrain_r18_step1'])
def test_weights_are_real_in_the_first_step(name):
    cfg = read(name)
    assert not any(conv.binary_weight for conv in convolutions(build(cfg)))
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler.end == 128
    assert cfg.optim_wrapper.optimizer == dict(
        type='Adam', lr=0.0025, weight_decay=1e-5)


@pytest.mark.parametrize('name', IMAGENET)
def test_the_rate_falls_to_0_at_the_end(name):
    cfg = read(name)
    scheduler = cfg.param_scheduler
    assert (scheduler.start_factor, scheduler.end_factor) == (1, 0)
    assert scheduler.end == cfg.train_cfg.max_epochs
    assert cfg.optim_wrapper.optimizer.type == 'Adam'
    assert cfg.auto_scale_lr.base_batch_size == 512


@pytest.mark.parametrize('name', ['rebnn/rebnn_r18', 'rbonn/rbonn_r18'])
def test_the_second_step_starts_from_react_nets_first(name):
    cfg, first = read(name), read('react/react_r18_step1')
    epochs = first.train_cfg.max_epochs
    assert cfg.load_from == f'work_dirs/react_r18_step1/epoch_{epochs}.pth'
    assert cfg.train_cfg.max_epochs == 256
    assert cfg.optim_wrapper.optimizer == dict(
        type='Adam', lr=0.001, weight_decay=0.0)
    # and its weights fit, apart from what the first step doesn't have
    theirs = build(first).state_dict()
    model = build(cfg)
    model.load_state_dict(theirs, strict=True)


@pytest.mark.parametrize('name', [
    'rbonn/rbonn_r18_mini', 'rbonn/rbonn_faster-rcnn_r18_mini',
    'ida_det/ida_det_r18_rbonn'
])
def test_u_learns_at_a_tenth_of_the_rate(name):
    cfg = read(name)
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {
        id(p): group['lr']
        for group in optimizer.param_groups
        for p in group['params']
    }
    lr = cfg.optim_wrapper.optimizer.lr
    for key, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        expected = lr / 10 if key.split('.')[-1] == 'u' else lr
        assert rates[id(parameter)] == pytest.approx(expected), key


def test_weight_decay_in_the_first_step_spares_what_it_should():
    cfg = read('react/react_r18_step1')
    model = build(cfg)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    decay = {
        id(p): group['weight_decay']
        for group in optimizer.param_groups
        for p in group['params']
    }
    for key, parameter in model.named_parameters():
        # the official rule: 4-D, or "conv" in the name
        expected = 1e-5 if parameter.dim() == 4 or 'conv' in key else 0
        assert decay[id(parameter)] == expected, key


def test_with_a_teacher_labels_do_not_count():
    cfg = read('react/react_r18_step2')
    head = dict(cfg.model.student.head, num_classes=3, in_channels=4)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        head = MODELS.build(head)
    scores = torch.randn(2, 4, requires_grad=True)
    loss = head.loss_module(head.fc(scores), torch.tensor([0, 1]))
    assert loss == 0
    assert cfg.model.losses.loss_kd.get('tau', 1.0) == 1
    assert cfg.model.losses.loss_kd.get('loss_weight', 1.0) == 1
