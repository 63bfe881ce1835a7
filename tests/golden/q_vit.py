"""Adapter of the Q-ViT fixtures."""
import torch.nn.functional as F
from golden import Case
from golden.attention import run_vit_attention
from golden.low_bit import (finish, layer_state, leaf, quantized_layer,
                            run_layer, run_quantizer)
from torch import Tensor

from mmcompress.quantization import LSQ, Spec
from mmcompress.quantization.layers import QuantLayer


def weight_quant(bits: int) -> dict:
    """As the released code of Q-ViT and Q-DETR quantizes weights."""
    return dict(
        type='LSQ', bits=bits, signed=True, init='lsq', init_stat='tensor')


def input_quant(bits: int) -> dict:
    """As it quantizes activations."""
    return dict(
        type='LSQ',
        bits=bits,
        offset='zero_point',
        init='lsq',
        init_stat='tensor')


def layer_of(case: Case, prefix: str = '') -> QuantLayer:
    """A linear layer or a convolution."""
    bits = case.hyper.get('bits', 8)
    return quantized_layer(case, weight_quant(bits), input_quant(bits), prefix)


def run_linear(case: Case) -> dict[str, Tensor]:
    """``LinearQ``, ``Conv2dQ``."""
    return run_layer(case, layer_of(case))


def run_act(case: Case) -> dict[str, Tensor]:
    """``ActQ``: heads of four dimensions, else channels, the last one."""
    size = len(case['param/alpha'])
    axis = 1 if case['in/x'].dim() == 4 else -1
    if size == 1 != case['in/x'].shape[axis]:
        axis = None
    cfg = input_quant(case.hyper['bits'])
    del cfg['type']
    return run_quantizer(case, LSQ(axis=axis, size=size, **cfg))


def run_mlp(case: Case) -> dict[str, Tensor]:
    """``Q_Mlp``."""
    fc1, fc2 = layer_of(case, 'fc1.'), layer_of(case, 'fc2.')
    x = leaf(case)
    y = fc2(F.gelu(fc1(x)).clamp(-10, 10))
    state = layer_state(fc1, 'fc1.') | layer_state(fc2, 'fc2.')
    return finish(case, dict(x=x), state, y)


def run_attention(case: Case) -> dict[str, Tensor]:
    """``Q_Attention``."""
    bits = case.hyper['bits']
    return run_vit_attention(
        case,
        Spec(
            weight=weight_quant(bits),
            activation=input_quant(bits),
            attention=input_quant(bits),
            query_norm=dict(type='IRM'),
            key_norm=dict(type='IRM'),
            act_granularity='channel'))


_RUN = dict(
    LinearQ=run_linear,
    Conv2dQ=run_linear,
    ActQ=run_act,
    Q_Mlp=run_mlp,
    Q_Attention=run_attention,
)


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    return _RUN[case.kind](case) if case.kind in _RUN else None
