"""Adapter of the Quantization Networks fixtures."""
import torch
from golden import Case
from torch import Tensor

from mmcompress.quantization import QNActivation, QNWeight
from mmcompress.quantization.kmeans import kmeans_boundaries
from mmcompress.quantization.quantization_networks import QNQuantizer


def _outputs(case: Case, quantizer: QNQuantizer, key: str, dy: Tensor,
             prefix: str) -> dict[str, Tensor]:
    """Soft and hard values, and the gradients."""
    quantizer.double()
    x = case[f'in/{key}'].clone().requires_grad_()
    with torch.no_grad():
        if case.hyper.get('init'):
            quantizer.initialize(x)
        for name, value in case.group('param').items():
            getattr(quantizer, name).copy_(value)
        quantizer.thresholds.copy_(case['in/biases'])
        quantizer.initialized.fill_(True)
    quantizer.set_temperature(case.hyper['T'])
    y = quantizer(x)
    y.backward(dy)
    grads = {
        key: x.grad,
        'alpha': quantizer.alpha.grad,
        'beta': quantizer.beta.grad
    }
    result = {f'{prefix}/{name}': grad for name, grad in grads.items()}
    result |= {'out/y': y, 'out/y_hard': quantizer.eval()(x)}
    result |= {'out/alpha': quantizer.alpha, 'out/beta': quantizer.beta}
    # some are stored without a dimension
    return {
        key: value.reshape(case[key].shape) if value.numel() == 1 else value
        for key, value in result.items() if key in case
    }


def run_weight(case: Case) -> dict[str, Tensor]:
    """With the derivative that was released, and with the right one."""
    values = case.hyper['values']
    # half of the range is subtracted officially, whatever the levels are
    levels = [int(v - values[0] - case.hyper['offset']) for v in values]
    result = {}
    for prefix, rule in {'grad': 'one', 'grad/true': 'T'}.items():
        quantizer = QNWeight(levels=levels, grad_temperature=rule)
        result |= _outputs(case, quantizer, 'w', case['in/grad_wq'], prefix)
    return result


def run_activation(case: Case) -> dict[str, Tensor]:
    """The same; officially, the lowest level is 0 always."""
    values = case.hyper['values']
    levels = [int(v - values[0]) for v in values]
    result = {}
    for prefix, released in {'grad': True, 'grad/true': False}.items():
        quantizer = QNActivation(levels=levels, released_gaps=released)
        result |= _outputs(case, quantizer, 'x', case['in/gout'], prefix)
    return result


def run_boundaries(case: Case) -> dict[str, Tensor]:
    """Thresholds of a scaled weight."""
    w, levels = case['in/w'], case.hyper['values']
    scaled = w * (1.25 * max(levels) / w.abs().max())
    return {'out/biases': kmeans_boundaries(scaled, len(levels))}


def run(case: Case) -> dict[str, Tensor] | None:
    """Compute what a fixture stores."""
    kinds = dict(
        weight=run_weight,
        activation=run_activation,
        kmeans_boundaries=run_boundaries)
    return kinds[case.kind](case) if case.kind in kinds else None
