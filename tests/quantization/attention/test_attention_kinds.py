import copy
import io
import pickle

import pytest
import torch
import torch.nn as nn
from attention_kinds import KINDS, SPEC, H, is_float_layer, make, quantize, run

from mmcompress.lowbit import float_twin
from mmcompress.quantization import Product, Quantizer, Spec, bypassed
from mmcompress.quantization.attention import QuantDeformableAttention

every_kind = pytest.mark.parametrize('kind', KINDS)
LSQ = dict(type='LSQ', bits=4)
FLOAT = Spec()


def quantizers(model: nn.Module) -> dict[str, Quantizer]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Quantizer)
    }


def pair(kind: str, spec: Spec = SPEC):
    """A float attention, the same quantized, and inputs."""
    plain = make(kind)
    quantized = quantize(copy.deepcopy(plain), spec)
    return plain, quantized, KINDS[kind].inputs()


@every_kind
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('spec', [SPEC, FLOAT], ids=['spec', 'float'])
def test_without_quantizers_it_computes_what_the_library_does(
        kind, training, spec):
    plain, quantized, inputs = pair(kind, spec)
    plain.train(training), quantized.train(training)
    with bypassed(quantized):
        torch.testing.assert_close(
            run(quantized, inputs), run(plain, inputs), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize('kind', KINDS)
def test_the_map_drops_out_as_in_the_library(kind):
    plain, quantized, inputs = pair(kind)
    for attn in (plain, quantized):
        if isinstance(getattr(attn, 'attn_drop', None), nn.Dropout):
            attn.attn_drop.p = 0.5
    results = []
    with bypassed(quantized):
        for attn in (plain, quantized):
            torch.manual_seed(1)
            results.append(run(attn, inputs))
    torch.testing.assert_close(*results, rtol=2e-6, atol=2e-6)


@every_kind
def test_every_quantizer_changes_the_result(kind):
    _, attn, inputs = pair(kind)
    before = run(attn, inputs)
    assert quantizers(attn)
    for name, quantizer in quantizers(attn).items():
        handle = quantizer.register_forward_hook(
            lambda module, args, y: torch.rand_like(y))
        assert not torch.equal(run(attn, inputs), before), name
        handle.remove()


@every_kind
def test_gradients_reach_every_parameter(kind):
    _, attn, inputs = pair(kind)
    out = run(attn, inputs)
    (out * torch.randn_like(out)).sum().backward()
    without = [
        name for name, p in attn.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    # softmax is blind for a constant that is added to all keys
    assert [n for n in without if not n.startswith('k')] == []


@every_kind
def test_it_loads_the_float_state_dict(kind):
    plain, quantized, _ = pair(kind)
    quantized.load_state_dict(plain.state_dict())


@every_kind
def test_its_state_dict_brings_it_back(kind):
    plain, quantized, inputs = pair(kind)
    expected = run(quantized, inputs)
    other = quantize(make(kind))
    other.load_state_dict(quantized.state_dict())
    assert torch.equal(run(other.eval(), inputs), expected)


@every_kind
def test_copies_and_pickles_compute_the_same(kind):
    plain, attn, inputs = pair(kind)
    expected = run(attn, inputs)
    stream = io.BytesIO(pickle.dumps(attn))
    for other in (copy.deepcopy(attn), pickle.load(stream)):
        assert type(other) is type(attn)
        assert torch.equal(run(other, inputs), expected)
        assert not {*map(id, other.parameters())
                    } & {*map(id, attn.parameters())}
    assert isinstance(attn, type(plain))


@every_kind
def test_hooks_of_products_see_both_operands(kind):
    _, attn, inputs = pair(kind)
    seen = []
    products = [m for m in attn.modules() if isinstance(m, Product)]
    for product in products:
        product.register_forward_hook(
            lambda module, args, y: seen.append(len(args)))
    run(attn, inputs)
    assert seen == [2] * len(products)
    assert len(products) == 0 if isinstance(attn,
                                            QuantDeformableAttention) else 2


@every_kind
def test_layers_that_it_calls_are_called(kind):
    _, attn, inputs = pair(kind)
    assert not any(map(is_float_layer, attn.modules()))
    run(attn, inputs)
    assert [n for n, q in quantizers(attn).items() if not q.seen] == []


@every_kind
def test_autocast_computes_in_float32(kind):
    _, attn, inputs = pair(kind)
    expected = run(attn, inputs)
    products = []
    for module in attn.modules():
        if isinstance(module, Product):
            module.register_forward_hook(
                lambda module, args, y: products.append(y.dtype))
    with torch.autocast('cpu', torch.bfloat16):
        out = run(attn, inputs)
        out.float().sum().backward()
    torch.testing.assert_close(out.float(), expected, rtol=.1, atol=.1)
    assert set(products) <= {torch.float32}


@every_kind
def test_a_model_in_half_precision_keeps_its_type(kind):
    _, attn, inputs = pair(kind)
    attn.bfloat16()
    half = {
        key:
        value.bfloat16()
        if torch.is_tensor(value) and value.is_floating_point() else value
        for key, value in inputs.items()
    }
    assert run(attn, half).dtype == torch.bfloat16
    products = quantize(make(kind), Spec(attention=LSQ), layers=False)
    assert run(products.bfloat16(), half).dtype == torch.bfloat16


@every_kind
def test_the_float_twin_is_the_library_s(kind):
    plain, attn, inputs = pair(kind)
    twin = float_twin(nn.Sequential(attn))[0]
    torch.testing.assert_close(
        run(twin, inputs), run(plain, inputs), rtol=2e-6, atol=2e-6)


@every_kind
def test_a_frozen_attention_stays_frozen(kind):
    plain = make(kind).requires_grad_(False).eval()
    attn = quantize(plain)
    assert not any(p.requires_grad for p in attn.parameters())
    assert not any(m.training for m in attn.modules())


@every_kind
def test_maps_have_no_sign_and_heads_scales_of_their_own(kind):
    _, attn, _ = pair(kind)
    found = quantizers(attn)
    maps = [
        q for n, q in found.items()
        if n.endswith(('av.a_quant', 'points_quant'))
    ]
    assert [q.is_signed for q in maps] == [False]
    products = [
        q for n, q in found.items()
        if n.endswith(('.a_quant', '.b_quant', 'sampled_quant'))
    ]
    assert products and {q.size for q in products} == {H}


@every_kind
def test_heads_can_share_scales(kind):
    _, attn, _ = pair(kind,
                      Spec(attention=LSQ, attention_granularity='tensor'))
    assert {q.size for q in quantizers(attn).values()} == {1}
