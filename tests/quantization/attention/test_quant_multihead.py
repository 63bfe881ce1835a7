import pytest
import torch
import torch.nn as nn
from attention_kinds import SPEC

from mmcompress.lowbit import FLOAT
from mmcompress.quantization import Quantizer, QuantLinear, Spec, bypassed
from mmcompress.quantization.attention import QuantMultiheadAttention

E, H, N, M, B = 12, 3, 5, 7, 2
CLOSE = dict(rtol=2e-6, atol=2e-6)


def pair(spec=SPEC, **options):
    torch.manual_seed(0)
    plain = nn.MultiheadAttention(E, H, **options)
    quantized = nn.MultiheadAttention(E, H, **options)
    nn.init.normal_(plain.in_proj_bias)
    quantized.load_state_dict(plain.state_dict())
    QuantMultiheadAttention.swap(quantized, spec)
    return plain, quantized


def inputs(*batch):
    return [torch.randn(n, *batch, E) for n in (N, M, M)]


def pairs_mask():
    mask = torch.zeros(N, M, dtype=torch.bool)
    mask[0, 3:] = True
    return mask


MASKS = {
    'none': {},
    'bool_2d':
    dict(attn_mask=pairs_mask()),
    'float_2d':
    dict(attn_mask=torch.linspace(-2, 2, N * M).view(N, M)),
    'bool_3d':
    dict(attn_mask=pairs_mask().repeat(B * H, 1, 1)),
    'float_3d':
    dict(attn_mask=torch.linspace(-2, 2, B * H * N * M).view(B * H, N, M)),
    'causal':
    dict(attn_mask=torch.ones(N, M, dtype=torch.bool).triu(1), is_causal=True),
    'padding':
    dict(key_padding_mask=torch.arange(M).repeat(B, 1) > 4),
    'float_padding':
    dict(key_padding_mask=torch.randn(B, M)),
    'both':
    dict(
        key_padding_mask=torch.arange(M).repeat(B, 1) > 4,
        attn_mask=pairs_mask()),
    'map_per_head':
    dict(average_attn_weights=False),
    'no_map':
    dict(need_weights=False),
}


@pytest.mark.parametrize('options', MASKS.values(), ids=MASKS)
def test_takes_the_masks_of_torch_and_returns_as_it_does(options):
    plain, quantized = pair()
    args = inputs(B)
    with bypassed(quantized):
        out, attn = quantized(*args, **options)
    expected, expected_attn = plain(*args, **options)
    torch.testing.assert_close(out, expected, **CLOSE)
    if expected_attn is None:
        assert attn is None
    else:
        torch.testing.assert_close(attn, expected_attn, **CLOSE)


def test_takes_inputs_without_a_batch():
    plain, quantized = pair(batch_first=True)
    args = inputs()
    mask = torch.arange(M) > 4
    with bypassed(quantized):
        results = quantized(*args, key_padding_mask=mask)
    for actual, expected in zip(results, plain(*args, key_padding_mask=mask)):
        torch.testing.assert_close(actual, expected, **CLOSE)


def test_drops_out_of_the_map_in_training_only():
    _, attn = pair(dropout=0.9)
    args = inputs(B)
    assert (attn(*args)[1] == 0).any()
    assert not (attn.eval()(*args)[1] == 0).any()


def test_a_query_without_keys_gives_no_nan():
    _, attn = pair()
    args = inputs(B)
    mask = torch.zeros(B, M, dtype=torch.bool)
    mask[0] = True
    out, weights = attn(*args, key_padding_mask=mask)
    out.sum().backward()
    assert out.isfinite().all() and not weights[0].any()
    assert all(p.isfinite().all() for p in attn.parameters())
    assert all(p.grad.isfinite().all() for p in attn.parameters())


def test_values_that_are_zero_pass_until_there_are_others():
    _, attn = pair()
    nn.init.zeros_(attn.in_proj_bias)
    query, key, value = inputs(B)
    attn(query, key, torch.zeros_like(value))[0].sum().backward()
    assert not attn.value_quant.is_initialized
    assert attn.value_quant.scale.grad is not None
    with torch.no_grad():
        # its bias is no longer 0 after a step
        nn.init.ones_(attn.in_proj_bias)
        attn.eval()(query, key, torch.zeros_like(value))
    quantizer = attn.products.av.b_quant
    with pytest.raises(RuntimeError, match='has no scales yet'):
        quantizer.quantize_int(torch.ones(1, H, 1, 1))
    attn.train()(query, key, value)
    assert attn.value_quant.is_initialized and quantizer.is_initialized


def test_encoder_layers_of_torch_do_not_read_past_it():
    # with an odd number of heads they do not
    layer = nn.TransformerEncoderLayer(E, 4, 8, batch_first=True)
    QuantMultiheadAttention.swap(layer.self_attn, SPEC)
    x = torch.randn(B, N, E)
    layer(x)
    for module in layer.modules():
        if isinstance(module, Quantizer):
            module.seen = False
    with torch.no_grad():
        layer.eval()(x)
    assert all(m.seen for m in layer.modules() if isinstance(m, Quantizer))


@pytest.mark.parametrize(
    'option', [
        dict(kdim=8),
        dict(vdim=8),
        dict(add_bias_kv=True),
        dict(add_zero_attn=True)
    ],
    ids=str)
def test_refuses_what_it_has_not(option):
    with pytest.raises(ValueError, match='exclude this attention'):
        QuantMultiheadAttention.swap(
            nn.MultiheadAttention(E, H, **option), SPEC)


@pytest.mark.parametrize(
    'options, match', [
        (dict(attn_mask=torch.zeros(M, N)), r'\(5, 7\) or \(6, 5, 7\)'),
        (dict(key_padding_mask=torch.zeros(M, B)), r'\(2, 7\)'),
        (dict(is_causal=True), 'is_causal needs'),
    ],
    ids=['pairs', 'padding', 'causal'])
def test_refuses_masks_of_another_shape(options, match):
    _, attn = pair()
    with pytest.raises(ValueError, match=match):
        attn(*inputs(B), **options)


def test_refuses_masks_of_another_type():
    _, attn = pair()
    with pytest.raises(TypeError, match='float, got torch.int32'):
        attn(*inputs(B), attn_mask=torch.zeros(N, M, dtype=torch.int32))


def test_says_its_bits():
    lsq = dict(type='LSQ', bits=2)
    _, attn = pair(Spec(weight=lsq, activation=dict(type='LSQ', bits=4)))
    assert attn.operand_bits() == (2, (4, 4, 4), FLOAT)
    # codes, a scale per row, the bias
    assert attn.inference_bytes() == 3 * E * E * 2 // 8 + 2 * 4 * 3 * E
    assert pair(Spec(weight=lsq))[1].inference_bytes() is None


def test_channels_of_inputs_can_have_scales_of_their_own():
    lsq = dict(type='LSQ', bits=4)
    _, attn = pair(Spec(activation=lsq, act_granularity='channel'))
    attn(*inputs(B))
    assert attn.query_quant.scale.shape == (E, )


def test_weights_and_products_are_quantized_apart():
    lsq = dict(type='LSQ', bits=4)
    _, attn = pair(Spec(attention=lsq))
    assert attn.weight_quant is None
    assert not isinstance(attn.out_proj, QuantLinear)
    assert attn.products.qk.a_quant.size == H
    _, attn = pair(Spec(weight=lsq))
    assert attn.query_quant is None and attn.products.qk.a_quant is None
    assert attn.weight_quant.size == 3 * E
