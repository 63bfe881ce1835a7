import importlib

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from attention_kinds import SPEC, C, H, make, quantize
from mmdet.models.layers import ConditionalAttention
from mmpose.models.utils.rtmcc_block import RTMCCBlock
from mmpretrain.models.utils import MultiheadAttention, WindowMSA

from mmcompress.backbones.routing_attention import BiLevelRoutingAttention
from mmcompress.quantization import QuantizeLayers, QuantLinear, Spec
from mmcompress.quantization.attention import (QuantDotProduct,
                                               QuantMultiheadAttention, rules)
from mmcompress.quantization.attention.rules import (attention_rule,
                                                     eight_bit_children,
                                                     float_products,
                                                     handled_children)

LSQ = dict(type='LSQ', bits=4)


def exists(path):
    module, _, name = path.rpartition('.')
    return hasattr(importlib.import_module(module), name)


def test_every_path_names_a_class():
    paths = [*attention_rule.paths, *rules._FLOAT]
    assert [path for path in paths if not exists(path)] == []


def test_what_has_a_rule_is_not_named_among_floats():
    assert not set(attention_rule.paths) & set(rules._FLOAT)
    assert float_products(make('swin_det')) is None
    assert float_products(quantize(make('torch'))) is None


def test_products_that_stay_float_have_a_reason():
    block = RTMCCBlock(4, C, C, s=4)
    assert 'without softmax' in float_products(block)
    assert 'regions' in float_products(BiLevelRoutingAttention(C, H))


class Reading(nn.MultiheadAttention):

    def forward(self, x):
        return x @ self.out_proj.weight


def test_a_forward_of_its_own_gets_no_rule():
    attn = Reading(C, H)
    assert attention_rule.find(attn) is None
    assert 'forward of its own' in float_products(attn)
    assert handled_children(attn) == ('out_proj', )


@pytest.mark.parametrize('kind', ['deformable', 'swin_v2'])
def test_layers_that_say_where_to_look_have_8_bits(kind):
    attn = make(kind)
    names = eight_bit_children(attn)
    assert all(
        isinstance(attn.get_submodule(name), nn.Linear) for name in names)
    assert len(names) == 2
    assert eight_bit_children(make('swin_det')) == ()


@pytest.mark.parametrize('kind', [
    'mmpretrain', 'swin_det', 'conditional_self', 'conditional_cross',
    'deformable'
])
def test_a_class_stays_if_its_products_stay_float(kind):
    attn = make(kind)
    cls = type(attn)
    attention_rule.find(attn)(attn, Spec(weight=LSQ, activation=LSQ))
    assert type(attn) is cls and not hasattr(attn, 'products')
    assert not isinstance(
        getattr(attn, 'scaled_dot_product_attention', None), nn.Module)


def test_a_wrong_scale_of_the_library_is_refused():
    attn = MultiheadAttention(C, H, qk_scale=0.5)
    with pytest.raises(ValueError, match='MultiheadAttention with a qk_scale'):
        attention_rule.find(attn)(attn, SPEC)


def test_norms_of_queries_are_refused_where_there_are_none():
    attn = make('deformable')
    with pytest.raises(ValueError, match='query_norm and key_norm have no'):
        attention_rule.find(attn)(attn, Spec(query_norm=dict(type='IRM')))


class Own(ConditionalAttention):

    def forward_attn(self, query, key, value, **kwargs):
        return value, None


def test_another_forward_attn_is_refused():
    attn = Own(C, H)
    with pytest.raises(TypeError, match='Own has a forward_attn of its own'):
        attention_rule.find(attn)(attn, SPEC)


@pytest.mark.parametrize('kind, dims', [('torch', 4), ('mmpretrain', 4),
                                        ('swin_det', 4), ('swin_v2', 4),
                                        ('beit_seg', 4),
                                        ('conditional_self', 4),
                                        ('conditional_cross', 8)])
def test_norms_have_the_size_of_a_head(kind, dims):
    attn = make(kind)
    spec = Spec(
        query_norm=dict(type='DistributionAlignment'),
        key_norm=dict(type='IRM'))
    attention_rule.find(attn)(attn, spec)
    product = getattr(attn, 'products', None)
    if product is None:
        product = attn.scaled_dot_product_attention
    assert product.norm_q.scale.shape == product.norm_k.weight.shape == (
        dims, )


def test_a_norm_does_not_undo_the_scale_of_scores():
    attn = quantize(WindowMSA(C, (3, 3), H), Spec(query_norm=dict(type='IRM')))
    nn.init.normal_(attn.qkv.weight)
    x = torch.randn(1, 9, C)
    before = attn(x)
    attn.scale *= 2
    assert not torch.allclose(attn(x), before)


def test_windows_of_swin_v2_are_normalized_once():
    attn = make('swin_v2')
    attention_rule.find(attn)(attn, Spec(query_norm=dict(type='IRM')))
    seen = []
    attn.products.qk.register_forward_hook(
        lambda module, args, y: seen.append(args[0]))
    attn(torch.randn(1, 9, C))
    torch.testing.assert_close(seen[0].norm(dim=-1), torch.ones(1, H, 9))


def test_an_attention_in_several_places_is_quantized_once():
    attn = nn.MultiheadAttention(C, H)
    QuantizeLayers(weight=LSQ, attention=LSQ)(nn.ModuleList([attn, attn]))
    assert isinstance(attn, QuantMultiheadAttention)
    assert isinstance(attn.out_proj, QuantLinear)


def test_queries_are_quantized_before_they_are_scaled():
    attn = make('swin_det')
    attention_rule.find(attn)(attn, SPEC)
    attn.scale = 100.
    seen = []
    attn.products.qk.register_forward_hook(
        lambda module, args, y: seen.append(args[0]))
    x = torch.randn(1, 9, C)
    attn(x)
    queries = attn.qkv(x)[..., :C].unflatten(-1, (H, -1)).transpose(1, 2)
    torch.testing.assert_close(seen[0], queries)


@pytest.mark.parametrize(
    'options', [
        dict(attn_mask=torch.rand(5, 7) < 0.5),
        dict(attn_mask=torch.linspace(-2, 2, 35).view(5, 7)),
        dict(is_causal=True),
        dict(scale=2.)
    ],
    ids=['bool', 'float', 'causal', 'scale'])
def test_the_dot_product_is_called_as_torch_s(options):
    attn = QuantDotProduct(Spec(), H, 4, torch.ones(1))
    q, k, v = (torch.randn(2, H, n, 4) for n in (5, 7, 7))
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(attn(q, k, v, **options), expected)


def test_a_causal_mask_and_another_one_are_refused():
    attn = QuantDotProduct(Spec(), H, 4, torch.ones(1))
    x = torch.randn(1, H, 5, 4)
    with pytest.raises(ValueError, match='is_causal is a mask of its own'):
        attn(x, x, x, torch.zeros(5, 5), is_causal=True)


def test_sharp_maps_of_swin_v2_are_limited():
    plain = make('swin_v2')
    nn.init.constant_(plain.logit_scale, 9)
    x = torch.randn(1, 9, C)
    expected = plain(x)
    attention_rule.find(plain)(plain, Spec())
    torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)


def test_points_of_a_deformable_attention_count():
    attn = quantize(make('deformable'))
    # 2 levels of 2 points
    assert attn.macs((), torch.zeros(5, 2, C)) == 5 * 2 * C * 4
    assert attn.operand_bits() == (None, (4, 4), 32)
