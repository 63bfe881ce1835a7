"""What the configs of Q-ViT promise beside what its quantizers do."""
import pytest
import torch
from meta_device import build_on_meta
from quantization.mini_transformers import batch, build, load, loss

from mmcompress.lowbit import LowBitLayer
from mmcompress.quantization import IRM, LSQ, bypassed


@pytest.mark.parametrize(
    'name',
    ['q_vit_deit-tiny-distilled_w2-a2_in1k', 'q_vit_swin-tiny_w2-a2_in1k'])
def test_everything_has_few_bits_but_what_sees_the_image_and_predicts(name):
    model = build_on_meta(load(name))
    bits = {
        path: module.operand_bits()
        for path, module in model.named_modules()
        if isinstance(module, LowBitLayer)
    }
    edges = {
        path
        for path in bits
        if path.startswith(('backbone.patch_embed.projection', 'head.'))
    }
    assert len(edges) == (2 if 'swin' in name else 3)
    for path, of_layer in bits.items():
        expected = 8 if path in edges else 2
        assert of_layer.weight in (expected, None)
        assert {*of_layer.activations} == {expected}
    linear = {
        path
        for path, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    }
    assert linear == {path for path in bits if bits[path].weight}


def test_released_behaviour_has_scales_and_zero_points_per_channel():
    model = build_on_meta(
        load('q_vit_deit-small-distilled_w4-a4_released_in1k'))
    layer = model.backbone.layers[0]
    product = layer.attn.scaled_dot_product_attention
    assert layer.attn.qkv.input_quant.zero_point.shape == (384, )
    assert model.head.layers.head_dist.input_quant.zero_point.shape == (384, )
    for quantizer in (product.qk.a_quant, product.av.a_quant):
        assert quantizer.zero_point.shape == (6, )
    assert layer.attn.qkv.weight_quant.zero_point is None


def rescaled(model, factor):
    """The model, its queries multiplied and shifted."""
    for layer in model.backbone.layers:
        qkv = layer.attn.qkv
        queries = slice(0, qkv.out_features // 3)
        with torch.no_grad():
            qkv.weight[queries] *= factor
            qkv.bias[queries] = qkv.bias[queries] * factor + 5
    return model


@pytest.mark.parametrize('name, same', [('q_vit_deit_w2_a2_irm_mini', True),
                                        ('lsq_deit_w2_a2_mini', False)])
def test_irm_ignores_scale_and_shift_of_queries(name, same):
    outputs = []
    for factor in (1, 4):
        model = rescaled(build(load(name)), factor).eval()
        with torch.no_grad(), bypassed(model):
            outputs.append(model(batch()['inputs'], mode='tensor'))
    difference = (outputs[0] - outputs[1]).abs().max()
    assert (difference < 1e-3 * outputs[0].abs().max()) == same


def entropy(x, bits):
    """Of the codes that queries get, in bits."""
    quantizer = LSQ(bits, axis=1, size=3, signed=True)
    quantizer.initialize(x)
    codes = quantizer.quantize_int(x).values
    share = torch.unique(codes, return_counts=True)[1] / codes.numel()
    return -(share * share.log2()).sum()


@pytest.mark.parametrize('bits', [2, 3, 4])
def test_codes_tell_no_less_with_irm_where_tokens_differ_in_size(bits):
    torch.manual_seed(0)
    size = torch.randn(4, 3, 50, 1)
    x = torch.randn(4, 3, 50, 16) * size.exp() + size
    with torch.no_grad():
        assert entropy(IRM(16)(x), bits) >= entropy(x, bits)


def test_dgd_is_nothing_between_equal_models():
    model = build(load('q_vit_deit_w2_a2_dgd_mini'))
    loss(model)
    teacher = model.distill.teacher.model
    with bypassed(model):
        assert loss(model)['loss_dgd'] > 0.1
        teacher.load_state_dict(model.state_dict(), strict=False)
        assert loss(model)['loss_dgd'] < 1e-3
    assert loss(model)['loss_dgd'] > 0.1


def test_dgd_sees_queries_behind_the_norms():
    model = build(load('q_vit_deit_w2_a2_mini'))
    loss(model)['loss_dgd'].backward()
    layers = model.backbone.layers
    for layer in layers:
        product = layer.attn.scaled_dot_product_attention
        assert product.norm_q.weight.grad.any()
        assert product.norm_k.weight.grad.any()
    # and nothing that comes after the last of them
    assert layers[-1].attn.proj.weight.grad is None
