import pytest
import torch
from torch import nn

from mmcompress.deploy import PackedLayer, pack
from mmcompress.deploy.integer_layers import PackedIntegerLayer
from mmcompress.quantization import (LSQ, Place, QuantConv2d,
                                     QuantConvTranspose2d, QuantLinear,
                                     build_quantizer, bypassed)

WEIGHTS = dict(
    lsq=dict(type='LSQ', bits=4),
    lsq_per_tensor=dict(type='LSQ', bits=3, per='tensor'),
    ternary=dict(type='TernaryWeight'),
    dynamic=dict(type='Dynamic', bits=8),
    observed=dict(type='Observed', bits=4, method='mse'),
    signs=dict(type='SignWeight'),
    dorefa=dict(type='DoReFaWeight', bits=4),
    dorefa_signs=dict(type='DoReFaWeight', bits=1),
    learned_signs=dict(type='ActBi', offset=None))
INPUTS = dict(
    lsq=dict(type='LSQ', bits=8),
    zero_point=dict(type='LSQ', bits=4, offset='zero_point'),
    pact=dict(type='PACT', bits=8, alpha=2.),
    dorefa=dict(type='DoReFaActivation', bits=4),
    observed=dict(type='Observed', bits=8, symmetric=False),
    ema=dict(type='Dynamic', bits=8, act_range='ema'))
# they have no integer product of the two
NO_WEIGHTS = dict(
    wide_dorefa=dict(type='DoReFaWeight', bits=8),
    affine=dict(type='Observed', bits=4, symmetric=False),
    levels_with_offset=dict(type='LSQ', bits=4, offset='beta'))
# in linear layers; a convolution pads with a 0 that has no code
OFFSETS = dict(
    beta=dict(type='LSQ', bits=4, offset='beta'),
    ema=dict(type='Dynamic', bits=8, kind='minmax', act_range='ema'))
SIGNS = dict(
    plain=dict(type='SignActivation'),
    learned=dict(type='ActBi'),
    learned_scale=dict(type='ActBi', offset=None))
NO_INPUTS = dict(
    dynamic=dict(type='Dynamic', bits=8, kind='minmax'),
    per_token=dict(type='Dynamic', bits=8, per_token=True),
    three_signs=dict(type='SignActivation', zero_to=0),
    signs_with_more_bits=dict(type='SignActivation'),
    steps=dict(type='QNActivation', bits=2))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(weight, inputs, **options):
    torch.manual_seed(0)
    layer = QuantLinear(
        6, 5, weight_quant=weight, input_quant=inputs, **options)
    layer(normal(4, 6))
    return layer.eval()


def conv(weight, inputs, **options):
    torch.manual_seed(0)
    layer = QuantConv2d(
        4,
        6,
        3,
        stride=2,
        padding=1,
        groups=2,
        weight_quant=weight,
        input_quant=inputs,
        **options)
    layer(normal(2, 4, 7, 7))
    return layer.eval()


def assert_integers_compute(layer, x):
    integers = pack(nn.Sequential(layer))[1]
    assert isinstance(integers[0], PackedIntegerLayer)
    with torch.no_grad():
        torch.testing.assert_close(integers(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('name', WEIGHTS)
def test_integers_of_weights_compute_the_layer(name):
    cfg = WEIGHTS[name]
    assert_integers_compute(linear(cfg, INPUTS['lsq']), normal(3, 6, seed=1))
    assert_integers_compute(
        conv(cfg, INPUTS['lsq']), normal(2, 4, 7, 7, seed=1))


@pytest.mark.parametrize('name', INPUTS)
def test_integers_of_inputs_compute_the_layer(name):
    cfg = INPUTS[name]
    assert_integers_compute(linear(WEIGHTS['lsq'], cfg), normal(3, 6, seed=1))
    assert_integers_compute(
        conv(WEIGHTS['lsq'], cfg), normal(2, 4, 7, 7, seed=1))


@pytest.mark.parametrize('clip', [1e9, 0.7])
def test_linear_layers_look_at_each_input_anew_as_their_quantizer(clip):
    cfg = dict(type='Dynamic', bits=8, clip=clip)
    layer = linear(WEIGHTS['ternary'], cfg)
    for factor in (0, 1, 10):
        assert_integers_compute(layer, factor * normal(3, 6, seed=1))
    assert conv(WEIGHTS['lsq'], cfg).inference_rule() is None


@pytest.mark.parametrize('name', OFFSETS)
def test_real_offsets_add_a_constant_unless_there_is_padding(name):
    cfg = OFFSETS[name]
    layer = linear(WEIGHTS['lsq'], cfg)
    assert layer.inference_rule().grid.offset.any()
    assert_integers_compute(layer, normal(3, 6, seed=1))
    assert conv(WEIGHTS['lsq'], cfg).inference_rule() is None


@pytest.mark.parametrize('weight', ['signs', 'dorefa_signs', 'learned_signs'])
@pytest.mark.parametrize('name', SIGNS)
def test_signs_of_both_operands_run_as_1_bit_layers(name, weight):
    layer = linear(WEIGHTS[weight], SIGNS[name])
    packed = pack(nn.Sequential(layer))[1]
    assert isinstance(packed[0][0], PackedLayer)
    # on thresholds, and beside them
    x = torch.cat([normal(20, 6, seed=1), torch.zeros(1, 6)])
    at = layer.inference_rule().threshold
    x = torch.cat([x, at[None], at[None].nextafter(torch.tensor(9.))])
    with torch.no_grad():
        torch.testing.assert_close(packed(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_zero_point_of_signs_shifts_the_threshold_and_the_bias():
    layer = linear(WEIGHTS['signs'], SIGNS['learned'])
    for z, scale in ((1., 0.3), (-1., 0.7), (2., 0.1)):
        layer.input_quant.zero_point.data.fill_(z)
        layer.input_quant.scale.data.fill_(scale)
        rule = layer.inference_rule()
        at = rule.threshold[:1]
        codes = layer.input_quant.quantize_int
        above = at.nextafter(torch.tensor(9.))
        assert (codes(at).values, codes(above).values) == (-1, 1)
        packed = pack(nn.Sequential(layer))[1]
        x = normal(20, 6, seed=1)
        with torch.no_grad():
            torch.testing.assert_close(
                packed(x), layer(x), rtol=1e-5, atol=1e-5)


def test_a_zero_point_beyond_the_codes_is_refused():
    layer = linear(WEIGHTS['lsq'], INPUTS['zero_point'])
    layer.input_quant.zero_point.data.fill_(30)
    with pytest.raises(ValueError, match='0: 0 has no code.*exclude'):
        pack(nn.Sequential(layer))


@pytest.mark.parametrize('name', NO_WEIGHTS)
def test_weights_that_are_shifted_have_no_integers(name):
    layer = linear(NO_WEIGHTS[name], INPUTS['lsq'])
    assert layer.inference_rule() is None


@pytest.mark.parametrize('name', NO_INPUTS)
def test_inputs_without_a_grid_have_no_integers(name):
    layer = linear(WEIGHTS['lsq'], NO_INPUTS[name])
    assert layer.inference_rule() is None


def test_scales_that_vary_along_the_sum_have_no_integers():
    layer = linear(WEIGHTS['lsq'], INPUTS['lsq'], act_granularity='channel')
    assert layer.input_quant.scale.shape == (6, )
    assert layer.inference_rule() is None


@pytest.mark.parametrize('name', WEIGHTS)
def test_weights_of_transposed_convolutions_have_a_scale_per_output(name):
    layer = QuantConvTranspose2d(
        3, 5, 2, weight_quant=WEIGHTS[name], input_quant=None)
    one = 'per' in WEIGHTS[name] or name.startswith('dorefa')
    assert layer.weight_quant.size == (1 if one else 5)
    y = layer(normal(2, 3, 4, 4))
    expected = nn.functional.conv_transpose2d(
        normal(2, 3, 4, 4), layer.weight_quant(layer.weight), layer.bias)
    torch.testing.assert_close(y, expected)


def test_half_weights_compute_what_passes_as_it_is():
    layer = linear(WEIGHTS['lsq'], INPUTS['lsq']).half()
    with bypassed(layer):
        assert layer(normal(3, 6).half()).dtype == torch.half


def test_weights_are_signed_also_where_none_is_negative():
    layer = QuantLinear(
        6, 5, weight_quant=WEIGHTS['lsq'], input_quant=INPUTS['lsq'])
    with torch.no_grad():
        layer.weight.abs_()
    layer(normal(4, 6))
    assert layer.weight_quant.is_signed
    assert layer.inference_rule().codes.max() <= 7


def test_refuses_options_that_it_does_not_know():
    with pytest.raises(ValueError, match="act_granularity.*'chanel'"):
        QuantLinear(2, 2, act_granularity='chanel')
    with pytest.raises(ValueError, match="LSQ: per must be 'tensor'.*'row'"):
        build_quantizer(dict(type='LSQ', bits=4, per='row'), Place())


def test_types_are_found_with_and_without_the_scope():
    for kind in ('LSQ', 'mmcompress.LSQ', LSQ):
        quantizer = build_quantizer(dict(type=kind, bits=4), Place(0, 3))
        assert isinstance(quantizer, LSQ) and quantizer.size == 3
