"""What the adapters of quantized attentions share."""
from collections.abc import Callable

import torch
import torch.nn as nn
from golden import Case
from golden.low_bit import begin, finish, layer_state, leaf, state_of
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor

from mmcompress.quantization import QuantLayer, Spec
from mmcompress.quantization.attention import (QuantDotProduct,
                                               QuantMultiheadAttention,
                                               attention_rule)


def _part(case: Case, prefix: str) -> dict[str, Tensor]:
    """Parameters below a prefix."""
    return {
        key.removeprefix(prefix): value
        for key, value in case.group('param').items() if key.startswith(prefix)
    }


def _begin_layer(case: Case, layer: QuantLayer, prefix: str) -> None:
    part = _part(case, prefix)
    with torch.no_grad():
        layer.weight.copy_(part['weight'])
        if layer.bias is not None:
            layer.bias.copy_(part['bias'])
    if 'alpha' in part:
        begin(layer.weight_quant, part)
    if 'act.alpha' in part:
        begin(layer.input_quant, _part(case, f'{prefix}act.'))


def _begin_products(case: Case, product: QuantDotProduct) -> tuple[dict, dict]:
    """Give products their state.

    Returns:
        tuple[dict, dict]: Parameters of norms and quantizers, both by official
        names.
    """
    quantizers = dict(
        q_act=product.qk.a_quant,
        k_act=product.qk.b_quant,
        v_act=product.av.b_quant,
        attn_act=product.av.a_quant)
    for name, quantizer in quantizers.items():
        begin(quantizer, _part(case, f'{name}.'))
    state = {}
    for name in ('norm_q', 'norm_k'):
        norm = getattr(product, name)
        if norm is not None:
            for key, parameter in norm.named_parameters():
                value = case[f'param/{name}.{key}']
                with torch.no_grad():
                    parameter.copy_(value.flatten())
                state[f'{name}.{key}'] = parameter
    return state, quantizers


def _quantizer_state(quantizers: dict) -> dict[str, Tensor]:
    state = {}
    for name, quantizer in quantizers.items():
        state |= state_of(quantizer, f'{name}.')
    return state


def run_vit_attention(case: Case,
                      spec: Spec,
                      bias: bool = True,
                      prepare: Callable | None = None) -> dict[str, Tensor]:
    """The attention of a quantized ViT, as mmpretrain has it.

    Args:
        case (Case): Has ``qkv``, ``proj``, ``norm_q`` and ``q_act``.
        spec (Spec): How it is quantized.
        bias (bool): Whether the layers add their bias.
        prepare (Callable | None): Called with the attention before it runs.
    """
    x = leaf(case)
    attn = MultiheadAttention(
        x.shape[-1], case.hyper['num_heads'], qkv_bias=bias,
        proj_bias=bias).to(x.dtype)
    attention_rule.find(attn)(attn, spec)
    norms, quantizers = _begin_products(case,
                                        attn.scaled_dot_product_attention)
    layers = dict(qkv=attn.qkv, proj=attn.proj)
    for name, layer in layers.items():
        spec.swap(layer)
        _begin_layer(case, layer, f'{name}.')
    if prepare is not None:
        prepare(attn)
    y = attn(x)
    state = norms | _quantizer_state(quantizers)
    for name, layer in layers.items():
        state |= layer_state(layer, f'{name}.')
    return finish(case, dict(x=x), state, y)


def run_multihead_attention(case: Case, spec: Spec) -> dict[str, Tensor]:
    """Q-DETR's version of torch's attention, sequence first.

    Args:
        case (Case): Has ``in_proj``, ``out_proj``, and ``q_act``.
        spec (Spec): How it is quantized.
    """
    inputs = {
        key: leaf(case, f'in/{key}')
        for key in ('query', 'key', 'value')
    }
    attn = nn.MultiheadAttention(inputs['query'].shape[-1],
                                 case.hyper['num_heads'])
    attn.to(inputs['query'].dtype)
    QuantMultiheadAttention.swap(attn, spec)
    norms, quantizers = _begin_products(case, attn.products)
    part = _part(case, 'in_proj.')
    with torch.no_grad():
        attn.in_proj_weight.copy_(part['weight'])
        attn.in_proj_bias.copy_(part['bias'])
    begin(attn.weight_quant, part)
    _begin_layer(case, attn.out_proj, 'out_proj.')
    masks = {
        key: case[f'in/{key}'].bool()
        for key in ('key_padding_mask', 'attn_mask') if f'in/{key}' in case
    }
    y = attn(**inputs, **masks)[0]
    state = norms | _quantizer_state(quantizers)
    state |= state_of(attn.weight_quant, 'in_proj.')
    state |= {
        'in_proj.weight': attn.in_proj_weight,
        'in_proj.bias': attn.in_proj_bias
    }
    return finish(case, inputs,
                  state | layer_state(attn.out_proj, 'out_proj.'), y)
