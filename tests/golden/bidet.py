"""Adapter of the BiDet fixtures."""
from golden import Case
from golden.one_bit import finish, layer_of, leaf, options, run_activation
from torch import Tensor


def run_layer(case: Case) -> dict[str, Tensor]:
    """A 1-bit layer of a real input."""
    layer = layer_of(case, 'BiDetConv2d', 'BiDetLinear',
                     **options(case, 'ste'))
    x = leaf(case)
    result = finish(case, layer, dict(x=x), dict(y=(layer(x), case['in/g'])))
    return result | {'out/alpha': layer.weight_scale()}


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if case.kind == 'activation':
        return run_activation(case, case.hyper.get('ste', 'bireal'))
    return run_layer(case) if case.kind == 'layer' else None
