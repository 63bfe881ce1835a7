import importlib.util
from pathlib import Path

import pytest
import torch
from distill.models import batch as tiny_batch
from distill.models import build, distill
from mmengine.config import Config

from mmcompress.distill.gradient_norms import tensors_of

TOOL = Path(__file__).parents[2].joinpath('tools', 'analysis_tools',
                                          'benchmark_distill.py')
spec = importlib.util.spec_from_file_location('benchmark_distill', TOOL)
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)


@pytest.mark.parametrize('num, k', [(6, 1), (15, 4), (30, 10), (100, 40)])
def test_interval_is_that_of_the_tables_of_the_sign_test(num, k):
    values = list(range(1, num + 1))
    assert benchmark.median_interval(values[::-1]) == (k, num + 1 - k)


def test_interval_covers_the_median_in_at_least_95_percent():
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(2000, 15, generator=generator)**2
    intervals = [benchmark.median_interval(s) for s in samples.tolist()]
    covered = sum(low <= 0.25 <= high for low, high in intervals)
    assert 0.95 <= covered / 2000 < 0.98


def test_five_rounds_are_too_few():
    with pytest.raises(ValueError, match='5 rounds'):
        benchmark.median_interval([1.0] * 5)


def test_parts_are_interleaved_in_rotating_order():
    now, order = [0.0], []

    def part(name, duration):

        def run():
            order.append(name)
            now[0] += duration

        return run

    seconds = benchmark.interleaved(
        {
            'a': part('a', 1),
            'b': part('b', 2),
            'c': part('c', 3)
        },
        rounds=3,
        warm_up=1,
        clock=lambda: now[0])
    assert ''.join(order) == 'abc' 'bca' 'cab' 'abc'
    assert seconds == dict(a=[1] * 3, b=[2] * 3, c=[3] * 3)


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
