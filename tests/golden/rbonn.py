"""Adapter of the RBONN fixtures."""
from golden import Case
from golden.one_bit import finish, layer_of, leaf, options, run_block
from torch import Tensor

from mmcompress.binary.layers.rbonn import density_indicator


def arguments(case: Case) -> dict:
    """Keyword arguments of the convolution."""
    kwargs = options(case, 'bin', 'tau', 'recon_weight', 'u_init')
    kwargs['variant'] = case.hyper.get('variant', 'official')
    return kwargs


def run_layer(case: Case) -> dict[str, Tensor]:
    """A 1-bit convolution of an input that is binarised already."""
    layer = layer_of(case, 'RBONNConv2d', **arguments(case))
    if 'in/prev_grad' in case:
        layer.prev_grad.copy_(case['in/prev_grad'])
    indicator = density_indicator(layer.weight, layer.scale_factor, layer.tau,
                                  layer.variant)
    x = leaf(case)
    y = layer.convolve(x)
    result = finish(case, layer, dict(x=x), dict(y=(y, case['in/g'])))
    return result | {'out/indicator': indicator.flatten()}


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if case.kind == 'block':
        conv_cfg = dict(type='mmcompress.RBONNConv2d', **arguments(case))
        return run_block(case, conv_cfg)
    return run_layer(case) if case.kind == 'layer' else None
