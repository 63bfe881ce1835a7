"""Adapter of the ReBNN fixtures."""
import torch
from golden import Case
from golden.one_bit import finish, layer_of, leaf, options, run_block
from torch import Tensor

from mmcompress.binary import binary_sign
from mmcompress.binary.layers.rebnn import flip_ratio


def arguments(case: Case) -> dict:
    """Keyword arguments of the convolution."""
    kwargs = options(case, 'bin')
    kwargs['variant'] = case.hyper.get('variant', 'official')
    gamma = case.hyper.get('gamma', 2e-4)
    kwargs['gamma_clamp'] = case.hyper.get('gamma_clamp') or (0, gamma)
    return kwargs


def run_layer(case: Case) -> dict[str, Tensor]:
    """A 1-bit convolution of an input that is binarised already."""
    layer = layer_of(case, 'ReBNNConv2d', **arguments(case))
    if 'in/prev_sign' in case:
        layer.prev_sign.copy_(case['in/prev_sign'])
    x = leaf(case)
    y = layer.convolve(x)
    y.backward(case['in/g'], inputs=[layer.weight], retain_graph=True)
    result = {
        'out/flip_ratio':
        flip_ratio(layer.prev_sign, binary_sign(layer.weight, layer.zero_as)),
        'out/gamma':
        layer.gamma()
    }
    layer.weight.grad = None
    result = {key: value.flatten() for key, value in result.items()}
    return result | finish(case, layer, dict(x=x), dict(y=(y, case['in/g'])))


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    torch.manual_seed(0)
    if case.kind == 'block':
        conv_cfg = dict(type='mmcompress.ReBNNConv2d', **arguments(case))
        return run_block(case, conv_cfg)
    return run_layer(case) if case.kind == 'layer' else None
