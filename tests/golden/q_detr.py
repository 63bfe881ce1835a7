"""Adapter of the Q-DETR fixtures."""
import torch
from golden import Case
from golden.attention import run_multihead_attention
from golden.low_bit import finish, leaf, run_quantizer
from golden.q_vit import input_quant, run_linear, weight_quant
from torch import Tensor

from mmcompress.quantization import LSQ, DistributionAlignment, Spec


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActLSQ``, whose axis is the first one of its size."""
    size = len(case['param/alpha'])
    axis = list(case['in/x'].shape).index(size)
    if 'axis' in case.hyper:
        axis = case.hyper['axis']
    cfg = input_quant(case.hyper['bits'])
    del cfg['type']
    return run_quantizer(case, LSQ(axis=axis, size=size, **cfg))


def run_alignment(case: Case) -> dict[str, Tensor]:
    """``DistributionAlignment``, whose official scale has four dimensions."""
    x = leaf(case)
    norm = DistributionAlignment(x.shape[-1], case.hyper['eps']).to(x.dtype)
    scale = case['param/scale']
    with torch.no_grad():
        norm.scale.copy_(scale.flatten())
        norm.bias.copy_(case['param/bias'])
    result = finish(case, dict(x=x), dict(norm.named_parameters()), norm(x))
    result['grad/scale'] = result['grad/scale'].view_as(scale)
    return result


def run_attention(case: Case) -> dict[str, Tensor]:
    """``QuantMultiheadAttention``, which projects real inputs."""
    align = case.hyper['align_query']
    result = run_multihead_attention(
        case,
        Spec(
            weight=weight_quant(case.hyper['bits']),
            attention=input_quant(case.hyper.get('attn_bits', 8)),
            query_norm=dict(type='DistributionAlignment') if align else None))
    for key in result:
        if key.endswith('norm_q.scale'):
            result[key] = result[key].view_as(case[key])
    return result


_RUN = dict(
    LinearLSQ=run_linear,
    Conv2dLSQ=run_linear,
    ActLSQ=run_act,
    DistributionAlignment=run_alignment,
    QuantMultiheadAttention=run_attention,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
