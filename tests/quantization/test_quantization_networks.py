import copy

import pytest
import torch
from golden import assert_golden, golden
from mmengine.logging import MessageHub
from torch import nn

from mmcompress.quantization import QNActivation, QNWeight, QuantConv2d
from mmcompress.quantization import quantization_networks as qn

POW2 = [-4, -2, -1, 0, 1, 2, 4]


@golden('quantization_networks')
def test_matches_the_official_numbers(case):
    assert_golden(case)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weight_quantizer(w=None, temperature=10., **kwargs):
    quantizer = QNWeight(**kwargs or dict(levels=POW2))
    quantizer.set_temperature(temperature)
    quantizer.initialize(nn.Parameter(normal(300) if w is None else w))
    return quantizer


# ---- Steps and sigmoids ----------------------------------------------------


def check_gradients(quantizer, x):
    quantizer.double()
    names = [name for name, _ in quantizer.named_parameters()]

    def compute(x, *parameters):
        return torch.func.functional_call(quantizer,
                                          dict(zip(names, parameters)), (x, ))

    inputs = [x.double().requires_grad_(), *quantizer.parameters()]
    # beyond the ends of the exponent, a tail has a gradient, not the value
    distance = (x[:, None] * quantizer.beta - quantizer.thresholds).abs()
    assert (distance * quantizer.temperature < 10).all()
    assert torch.autograd.gradcheck(compute, inputs)


@pytest.mark.parametrize('learn_thresholds', [False, True])
def test_gradients_of_weights_are_those_of_what_is_computed(learn_thresholds):
    quantizer = weight_quantizer(
        temperature=1., levels=POW2, learn_thresholds=learn_thresholds)
    check_gradients(quantizer, normal(20, seed=1))
    assert len(list(quantizer.parameters())) == 2 + learn_thresholds


def test_gradients_of_activations_are_right_for_every_gap():
    quantizer = QNActivation(levels=[0, 1, 2, 4])
    quantizer.initialize(normal(300).relu())
    quantizer.set_temperature(1.)
    check_gradients(quantizer, normal(20, seed=1).abs())


def test_training_approaches_evaluation_as_the_temperature_grows():
    quantizer = weight_quantizer()
    x = torch.linspace(-5, 5, 2001) / quantizer.beta.detach()
    far = (quantizer.beta * x -
           quantizer.thresholds[:, None]).abs().amin(0) > 0.05
    hard = quantizer.eval()(x).detach()
    quantizer.train()
    differences = []
    for temperature in (5, 20, 80, 200):
        quantizer.set_temperature(temperature)
        y = quantizer(x).detach()
        differences.append(float((y - hard)[far].abs().max()))
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < 1e-3 * float(hard.max() - hard.min())


@pytest.mark.parametrize('training', [True, False])
def test_values_rise_from_the_lowest_level_to_the_highest(training):
    quantizer = weight_quantizer().train(training)
    with torch.no_grad():
        y = quantizer(torch.linspace(-9, 9, 1001)) / quantizer.alpha
    # sums in float32
    assert (y.diff() >= -1e-6).all()
    torch.testing.assert_close(
        y[[0, -1]], torch.tensor([-4., 4]), atol=1e-3, rtol=0)
    assert y.abs().max() <= 4


def test_evaluation_returns_levels_and_a_threshold_belongs_to_the_lower():
    quantizer = weight_quantizer().eval()
    quantizer.beta.data.fill_(1)
    codes = quantizer.quantize_int(normal(1000))
    assert codes.values.unique().tolist() == POW2
    at = quantizer.quantize_int(quantizer.thresholds).values
    assert at.tolist() == POW2[:-1]


def test_above_2000_the_temperature_of_weights_changes_nothing():
    quantizer = weight_quantizer(temperature=2000.)
    # not far from a step
    x = ((quantizer.thresholds + 2e-4) / quantizer.beta).detach()
    expected = quantizer(x)
    quantizer.set_temperature(9000.)
    assert torch.equal(quantizer(x), expected)
    quantizer.set_temperature(1000.)
    assert not torch.equal(quantizer(x), expected)


def test_every_parameter_gets_a_gradient_in_eval_mode():
    # DDP waits for it
    quantizer = weight_quantizer().eval()
    quantizer(nn.Parameter(normal(20))).sum().backward()
    assert quantizer.alpha.grad.any() and quantizer.beta.grad is not None


# ---- Levels ----------------------------------------------------------------


@pytest.mark.parametrize(('kwargs', 'levels', 'bits'), [
    (dict(bits=1), [-1, 1], 1),
    (dict(bits=2), [-1, 0, 1], 2),
    (dict(bits=3), [-3, -2, -1, 0, 1, 2, 3], 3),
    (dict(levels=[-2, -1, 0, 1, 2]), [-2, -1, 0, 1, 2], 3),
    (dict(levels=POW2), POW2, 4),
],
                         ids=str)
def test_levels_of_weights_and_bits_that_hold_them(kwargs, levels, bits):
    quantizer = QNWeight(**kwargs)
    assert (quantizer.levels, quantizer.bits) == (levels, bits)
    # two's complement
    assert bits == 1 or -2**(bits - 1) <= levels[0] <= levels[-1] < 2**(
        bits - 1)


def test_levels_of_activations():
    assert QNActivation(bits=2).levels == [0, 1, 2, 3]
    assert QNActivation(levels=[0, 1, 4]).bits == 3


@pytest.mark.parametrize(('kind', 'kwargs'), [
    (QNWeight, dict()),
    (QNWeight, dict(bits=2, levels=[-1, 0, 1])),
    (QNWeight, dict(levels=[-1, 1, 0])),
    (QNWeight, dict(levels=[-1, 0.5, 1])),
    (QNWeight, dict(levels=[0, 1])),
    (QNWeight, dict(levels=[-1])),
    (QNWeight, dict(bits=9)),
    (QNWeight, dict(bits=2, init='mse')),
    (QNWeight, dict(bits=2, grad_temperature=1)),
    (QNActivation, dict(levels=[1, 2])),
    (QNActivation, dict(bits=2, signed=True)),
],
                         ids=str)
def test_what_there_is_not_is_refused_by_name(kind, kwargs):
    with pytest.raises(ValueError, match=kind.__name__):
        kind(**kwargs)


def test_a_checkpoint_of_other_levels_is_refused_in_words():
    old = weight_quantizer(levels=[-2, -1, 0, 1, 2]).state_dict()
    with pytest.raises(RuntimeError, match='levels.*-2.*-4.*float checkpoint'):
        QNWeight(levels=[-4, -1, 0, 1, 4]).load_state_dict(old)


# ---- Beginning -------------------------------------------------------------


def test_thresholds_grow_with_the_weight():
    first, second = weight_quantizer(), weight_quantizer(100 * normal(300))
    torch.testing.assert_close(second.thresholds, first.thresholds)
    torch.testing.assert_close(second.beta, first.beta / 100)


def test_the_largest_weight_decides_the_scale_unless_it_is_fitted():
    w = normal(300)
    released = weight_quantizer(w)
    largest = (released.beta * w.abs().max()).item()
    assert largest == pytest.approx(5)
    fitted = weight_quantizer(w, levels=POW2, init='fit')
    errors = [(q.eval()(w) - w).square().mean() for q in (released, fitted)]
    assert errors[1] < errors[0]
    assert torch.equal(
        released.quantize_int(w).values,
        fitted.quantize_int(w).values)


def test_fewer_values_than_levels_go_to_what_is_near():
    w = torch.tensor([0.5, -0.5, 0.5])
    quantizer = weight_quantizer(w, levels=[-1, 0, 1])
    assert quantizer.quantize_int(w).values.tolist() == [1, -1, 1]


def test_activations_begin_with_a_sample_and_draw_nothing(monkeypatch):
    monkeypatch.setattr(qn, '_SAMPLES', 2000)
    x = normal(100_000).relu()
    state = torch.get_rng_state()
    quantizer = QNActivation(bits=2).eval()
    quantizer.initialize(x)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(qn, '_SAMPLES', len(x))
    whole = QNActivation(bits=2).eval()
    whole.initialize(x)
    for name in ('thresholds', 'alpha', 'beta'):
        torch.testing.assert_close(
            getattr(quantizer, name), getattr(whole, name), rtol=0.1, atol=0)
    error = (whole(x) - x).square().mean() / x.var()
    # the least that 4 equidistant levels leave of such data is about 0.05
    assert error < 0.08


def test_negative_activations_are_told_with_their_place(monkeypatch):
    told = []
    monkeypatch.setattr(qn, 'print_log', lambda text, *args: told.append(text))
    quantizer = QNActivation(bits=2)
    quantizer.path = 'neck.fpn_convs.0.conv.input_quant'
    quantizer.initialize(normal(100).relu())
    assert not told
    quantizer.initialize(normal(100))
    assert 'neck.fpn_convs.0.conv.input_quant' in told[0]
    assert 'overrides' in told[0]
    positive = QNActivation(bits=2)
    positive.initialize(normal(100).relu())
    torch.testing.assert_close(quantizer.thresholds, positive.thresholds)


# ---- Temperature -----------------------------------------------------------


def test_a_training_without_temperatures_is_an_error_in_words():
    quantizer = QNWeight(bits=2)
    quantizer.path = 'conv.weight_quant'
    w = nn.Parameter(normal(20))
    quantizer.eval()(w)
    hub = MessageHub.get_current_instance()
    hub.update_info('cfg', 'model = dict()')
    try:
        with pytest.raises(
                RuntimeError, match='conv.weight_quant.*TemperatureHook'):
            quantizer.train()(w)
        # also one that goes on from a checkpoint with a temperature
        new = QNWeight(bits=2)
        new.load_state_dict(weight_quantizer(bits=2).state_dict())
        with pytest.raises(RuntimeError, match='TemperatureHook'):
            new(w)
        new.set_temperature(3.)
        new(w)
    finally:
        hub.runtime_info.pop('cfg')


def test_elsewhere_it_is_a_warning(monkeypatch):
    told = []
    monkeypatch.setattr(qn, 'print_log', lambda text, *args: told.append(text))
    qn._warn_of_temperature.cache_clear()
    for _ in range(2):
        QNWeight(bits=2)(nn.Parameter(normal(20)))
    assert len(told) == 1 and 'TemperatureHook' in told[0]


def test_the_temperature_is_in_the_checkpoint():
    state = weight_quantizer(temperature=70.).state_dict()
    new = QNWeight(levels=POW2)
    new.load_state_dict(state)
    assert float(new.temperature) == 70


# ---- In layers -------------------------------------------------------------


def conv(**kwargs):
    torch.manual_seed(0)
    return QuantConv2d(
        3, 4, 3, weight_quant=dict(type='QNWeight', levels=POW2), **kwargs)


def test_a_layer_has_one_scale_and_its_integers_are_the_levels():
    layer = conv(input_quant=dict(type='LSQ', bits=4))
    x = normal(2, 3, 6, 6)
    layer(x).sum().backward()
    assert layer.weight_quant.alpha.shape == (1, )
    rule = layer.eval().inference_rule()
    assert rule.codes.unique().tolist() == POW2
    assert rule.scale.shape == (4, ) and len(rule.scale.unique()) == 1


def test_activations_by_thresholds_have_no_grid():
    layer = conv(input_quant=dict(type='QNActivation', bits=2))
    layer(normal(2, 3, 6, 6).relu())
    assert layer.eval().inference_rule() is None
    assert layer.operand_bits().activations == (2, )


def test_the_second_phase_begins_with_the_weights_of_the_first():
    first = conv()
    first(normal(2, 3, 6, 6).relu())
    with torch.no_grad():
        first.weight_quant.alpha.mul_(0.7)
    second = conv(input_quant=dict(type='QNActivation', bits=2))
    second.load_state_dict(first.state_dict(), strict=False)
    before = copy.deepcopy(second.weight_quant.state_dict())
    assert torch.equal(before['alpha'], first.weight_quant.alpha)
    assert not second.input_quant.is_initialized
    second(normal(2, 3, 6, 6).relu())
    assert second.input_quant.is_initialized
    after = second.weight_quant.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_a_calibration_begins_with_all_its_batches():
    quantizer = QNActivation(bits=2)
    quantizer.observe()
    with torch.no_grad():
        for size in (1, 4):
            x = size * normal(1000).relu()
            assert quantizer(x) is x
    assert quantizer.freeze() and quantizer.is_initialized
    expected = QNActivation(bits=2)
    both = torch.cat([normal(1000).relu(), 4 * normal(1000).relu()])
    expected.initialize(both)
    assert torch.equal(quantizer.thresholds, expected.thresholds)
    assert torch.equal(quantizer.alpha, expected.alpha)
