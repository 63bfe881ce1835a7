"""Adapter of the XNOR-Net fixtures."""
from golden import Case
from golden.one_bit import finish, layer_of, leaf, options, run_activation
from torch import Tensor


def run_layer(case: Case) -> dict[str, Tensor]:
    """A 1-bit layer, from the latent weight to the modified gradient."""
    layer = layer_of(case, 'XNORConv2d', 'XNORLinear', **options(case))
    alpha = layer.weight_scale()
    weight_hat = layer.binarize_weight()
    weight_hat.retain_grad()
    layer.binarize_weight = lambda: weight_hat
    x = leaf(case)
    result = finish(case, layer, dict(x=x), dict(y=(layer(x), case['in/g'])))
    return result | {
        # the optimizer's step starts from it
        'out/weight_latent': layer.weight,
        'out/alpha': alpha,
        'grad/weight_hat': weight_hat.grad
    }


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    if case.kind == 'activation':
        return run_activation(case, 'clip')
    return run_layer(case) if case.kind == 'layer' else None
