import importlib.util
from pathlib import Path

import torch
from distill.models import batch as tiny_batch
from distill.models import build, distill
from mmengine.config import Config

from mmcompress.distill.taps import tensors_of

TOOL = Path(__file__).parents[2].joinpath('tools', 'analysis_tools',
                                          'benchmark_distill.py')
spec = importlib.util.spec_from_file_location('benchmark_distill', TOOL)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


def test_ratio_is_that_of_each_round():
    seconds = {
        'step with Distill': [11.0, 9.0],
        "student's own step": [5.0, 4.0],
        "teacher's forward": [3.0, 4.0],
        'losses alone': [2.0, 1.0]
    }
    assert benchmark.ratios(seconds) == [1.1, 1.0]


def test_losses_alone_go_back_to_the_taps_and_no_further():
    model = build(distill()).train()
    run = benchmark.losses_alone(model, tiny_batch(model))
    reached = []
    for name, parameter in model.named_parameters():
        parameter.register_hook(
            lambda grad, name=name: reached.append(name.split('.')[0]))
    run()
    assert set(reached) == {'distill'}
    assert all(p.grad is None for p in model.parameters())


def test_losses_alone_compute_the_gradient_of_what_was_tapped(monkeypatch):
    model = build(distill()).train()
    tapped = []
    monkeypatch.setattr(
        benchmark, 'tensors_of',
        lambda value: tapped.extend(tensors_of(value)) or tapped)
    run = benchmark.losses_alone(model, tiny_batch(model))
    shapes = []
    for tensor in tapped:
        tensor.register_hook(lambda grad: shapes.append(tuple(grad.shape)))
    run()
    assert sorted(shapes) == sorted(tuple(t.shape) for t in tapped)


def test_training_step_works_without_changing_the_weights():
    model = build(distill()).train()
    cfg = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0))))
    before = [p.clone() for p in model.parameters()]
    reached = []
    model.backbone.conv1.weight.register_hook(
        lambda grad: reached.append('student'))
    model.distill.loss_tiny.adapter.weight.register_hook(
        lambda grad: reached.append('distill'))
    benchmark.training_step(model, cfg, tiny_batch(model))()
    assert {'student', 'distill'} <= set(reached)
    for parameter, old in zip(model.parameters(), before):
        torch.testing.assert_close(parameter, old, rtol=0, atol=0)


def test_plain_student_has_the_same_weights():
    cfg = Config(dict(model=distill()))
    distilled, plain = benchmark.build(cfg, '.')
    assert not hasattr(plain, 'distill')
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(value, distilled.state_dict()[key])
