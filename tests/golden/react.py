"""Adapter of the ReActNet fixtures."""
from golden import Case
from golden.one_bit import (finish, layer_of, leaf, options, run_activation,
                            run_block)
from torch import Tensor


def run_layer(case: Case) -> dict[str, Tensor]:
    """A 1-bit convolution of an input that is binarised already."""
    layer = layer_of(case, 'ReActConv2d', shift=False, **options(case))
    x = leaf(case)
    y = layer.convolve(x)
    result = finish(case, layer, dict(x=x), dict(y=(y, case['in/g'])))
    return result | {'out/alpha': layer.weight_scale()}


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if case.kind == 'block':
        return run_block(
            case,
            dict(type='mmcompress.ReActConv2d', shift=False, **options(case)))
    kinds = dict(activation=run_activation, layer=run_layer)
    return kinds[case.kind](case) if case.kind in kinds else None
