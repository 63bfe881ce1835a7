"""How much each layer's output changes by its own quantizers."""
from typing import NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import LowBitLayer
from .calibration import predict
from .quantizer import Quantizer, bypassed


class LayerError(NamedTuple):
    """Of one layer or product.

    Attributes:
        name (str): Path of the module.
        bits (str): Of the factors of its product; empty if it has none.
        error (float): Norm of what quantizing changes of its output, over the
            norm of the output; of all calls together.
        has_weight (bool): Whether it is no product of two activations.
    """
    name: str
    bits: str
    error: float
    has_weight: bool


def _first_tensor(output) -> Tensor:
    return output if isinstance(output, Tensor) else _first_tensor(output[0])


class _Sums:
    """Squares of a module's outputs, and of how quantized ones differ."""

    def __init__(self, module: nn.Module, quantized: nn.Module) -> None:
        self.quantized = quantized
        self.squares = self.differences = 0.
        self.handle = module.register_forward_hook(self._add, with_kwargs=True)
        self.is_inside = False

    def _add(self, module: nn.Module, args: tuple, kwargs: dict,
             output) -> None:
        if self.is_inside:
            return
        y = _first_tensor(output)
        self.is_inside = True
        if module is self.quantized:
            # a product, which the float model has not
            with bypassed(module):
                other = module(*args, **kwargs)
        else:
            other = self.quantized(*args, **kwargs)
        self.is_inside = False
        self.squares += y.square().sum().item()
        difference = _first_tensor(other) - y
        self.differences += difference.square().sum().item()

    @property
    def error(self) -> float:
        """Of all calls."""
        return (self.differences / (self.squares or 1.))**0.5


def _bits(module: nn.Module) -> str:
    if not isinstance(module, LowBitLayer):
        return ''
    return '/'.join(map(str, module.operand_bits().factors))


@torch.no_grad()
def layer_errors(model: nn.Module, float_model: nn.Module,
                 batches: list[dict]) -> list[LayerError]:
    """Compare each layer with its float version, on the same input.

    The input is that in the float model, so that an error is the layer's own,
    and not that of layers before it.

    Args:
        model (nn.Module): With calibrated quantizers, in eval mode.
        float_model (nn.Module): The same without quantizers.
        batches (list[dict]): As a data loader gives them.

    Returns:
        list[LayerError]: Of the modules that were called, the worst first.
    """
    plain = dict(float_model.named_modules())
    sums = {}
    products = {}
    for name, module in model.named_modules():
        if any(isinstance(m, Quantizer) for m in module.children()):
            if name in plain:
                sums[name] = _Sums(plain[name], module)
            else:
                products[name] = _Sums(module, module)
    for found, runs in ((sums, float_model), (products, model)):
        for batch in batches if found else []:
            predict(runs, batch)
        for name in found:
            found[name].handle.remove()
    errors = [
        LayerError(name, _bits(found.quantized), found.error, name
                   not in products) for name, found in {
                       **sums,
                       **products
                   }.items() if found.squares
    ]
    return sorted(errors, key=lambda e: -e.error)


def stand_out(errors: list[LayerError], at_most: int = 5) -> list[str]:
    """Layers whose error is more than twice the median, the worst first.

    Args:
        errors (list[LayerError]): The worst first.
        at_most (int): How many.
    """
    layers = [e for e in errors if e.has_weight]
    median = layers[len(layers) // 2].error if layers else 0.
    return [e.name for e in layers if e.error > 2 * median][:at_most]
