import copy

import pytest
import torch
from golden import assert_golden, golden

from mmcompress.quantization import LSQ, MSE, MinMax, MovingAverage, Percentile
from mmcompress.quantization.observers import OBSERVERS


@golden('ptq')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_quantizer_hands_its_observer_what_it_would_quantize():
    quantizer = LSQ(8)
    quantizer.observer = MinMax(quantizer)
    x = normal(2, 5)
    assert quantizer(x) is x and quantizer(10 * x) is not None
    torch.testing.assert_close(quantizer.observer.range(),
                               (10 * x.min()[None], 10 * x.max()[None]))
    assert not quantizer.is_initialized


@pytest.mark.parametrize('name', OBSERVERS)
def test_each_index_of_the_axis_has_a_range(name):
    x = normal(4, 3, 50) * torch.tensor([1., 10, 100])[:, None]
    observer = OBSERVERS[name](LSQ(8, axis=1, size=3))
    observer(x)
    scale, zero_point = observer.scale_and_zero_point(-128, 127, True)
    assert scale.shape == zero_point.shape == (3, )
    for i in range(3):
        alone = OBSERVERS[name](LSQ(8))
        alone(x[:, i])
        torch.testing.assert_close(
            alone.scale_and_zero_point(-128, 127, True)[0], scale[i:i + 1])


@pytest.mark.parametrize('name', OBSERVERS)
def test_ranges_that_hold_no_zero_are_widened(name):
    observer = OBSERVERS[name](LSQ(8, signed=False))
    observer(torch.linspace(2, 3, 11))
    scale, zero_point = observer.scale_and_zero_point(0, 255, False)
    assert zero_point == 0 and scale <= 3 / 255 * (1 + 1e-6)


@pytest.mark.parametrize('name', OBSERVERS)
def test_data_without_negative_values_need_no_negative_codes(name):
    observer = OBSERVERS[name](LSQ(8, signed=False))
    observer(torch.arange(256.))
    scale, zero_point = observer.scale_and_zero_point(0, 255, True)
    assert zero_point == 0
    assert float(scale) == pytest.approx(1, abs=1e-3)


def test_the_least_squared_error_clips_an_outlier_at_few_bits():
    x = torch.cat([normal(10000), torch.tensor([30.])])
    mse, widest = MSE(LSQ(4)), MinMax(LSQ(4))
    for observer in (mse, widest):
        observer(x)
    errors = []
    for observer in (mse, widest):
        s, z = observer.scale_and_zero_point(-8, 7, True)
        y = (x / s).round().clamp(-8, 7) * s
        errors.append((y - x).square().mean())
    assert errors[0] < errors[1] / 2


def test_a_sample_is_bounded_and_represents_all_calls(monkeypatch):
    monkeypatch.setattr('mmcompress.quantization.observers._KEPT', 4000)
    observer = Percentile(LSQ(8), 0.9)
    for _ in range(5):
        observer(torch.arange(1000.))
    for _ in range(5):
        observer(torch.arange(1000., 2000.))
    assert observer.sample.shape == (1, 4000)
    least, largest = observer.range()
    assert float(least) == pytest.approx(200, abs=40)
    assert float(largest) == pytest.approx(1800, abs=40)


def test_sampling_leaves_the_global_generator_alone(monkeypatch):
    monkeypatch.setattr('mmcompress.quantization.observers._KEPT', 300)
    before = torch.get_rng_state()
    scales = []
    for _ in range(2):
        observer = MSE(LSQ(4))
        for seed in range(3):
            observer(normal(500, seed=seed))
        scales.append(observer.scale_and_zero_point(-8, 7, True)[0])
    assert torch.equal(*scales)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_copy_collects_by_itself():
    quantizer = LSQ(8)
    quantizer.observer = MinMax(quantizer)
    quantizer(torch.ones(3))
    twin = copy.deepcopy(quantizer)
    twin(torch.full((3, ), 5.))
    assert quantizer.observer.largest == 1 and twin.observer.largest == 5
    assert twin.observer.quantizer is twin


@pytest.mark.parametrize('name', OBSERVERS)
def test_empty_inputs_say_nothing(name):
    observer = OBSERVERS[name](LSQ(8))
    observer(torch.ones(0, 4))
    with pytest.raises(ValueError, match='has seen no value'):
        observer.range()


@pytest.mark.parametrize('name', OBSERVERS)
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_values_that_are_not_finite_are_refused_in_words(name, value):
    quantizer = LSQ(8)
    quantizer.path = 'neck.conv.input_quant'
    observer = OBSERVERS[name](quantizer)
    observer(torch.full((4, ), value))
    with pytest.raises(ValueError, match='neck.conv.input_quant.*not finite'):
        observer.scale_and_zero_point(-8, 7, True)


@pytest.mark.parametrize(
    'build', [
        lambda q: Percentile(q, 0.4), lambda q: Percentile(q, 1.1),
        lambda q: MovingAverage(q, 0.)
    ],
    ids=['low', 'high', 'momentum'])
def test_refuses_options_that_make_no_range(build):
    with pytest.raises(ValueError, match='must be in'):
        build(LSQ(8))
