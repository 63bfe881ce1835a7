"""Values that no packing could have written, whatever checksum they have."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.quantization.quantizer import Quantizer
from ..inference_only import InferenceOnly


def _of_quantizer(quantizer: Quantizer, own: dict[str, Tensor]) -> str | None:
    positive = {id(p) for p in quantizer.after_step()}
    for name, parameter in quantizer.named_parameters(recurse=False):
        if id(parameter) in positive and not (own[name] > 0).all():
            return f'{name} is not positive'
    return None


def _of_module(module: nn.Module, own: dict[str, Tensor]) -> str | None:
    for name, tensor in own.items():
        if tensor.is_floating_point() and tensor.isnan().any():
            return f'{name} has values that are no numbers'
        if name in module._parameters and tensor.isinf().any():
            return f'{name} has infinite values'
    if isinstance(module, InferenceOnly):
        return module.impossible(own)
    if isinstance(module, Quantizer):
        return _of_quantizer(module, own)
    return None


def _unequal_shares(model: nn.Module, state: dict[str, Tensor]) -> str | None:
    """Two entries of one tensor that differ."""
    first: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        other = first.setdefault(id(tensor), name)
        if not torch.equal(state[name], state[other]):
            return f'{name} and {other} are one tensor, and differ in it'
    return None


@torch.no_grad()
def impossible_value(model: nn.Module, state: dict[str, Tensor]) -> str | None:
    """The first value that can't be right, in words; None: all may be.

    Args:
        model (nn.Module): A packed model.
        state (dict[str, Tensor]): Of its keys and shapes.
    """
    for path, module in model.named_modules():
        prefix = f'{path}.' if path else ''
        own = {
            name: state[prefix + name]
            for name in (*module._parameters, *module._buffers)
            if prefix + name in state
        }
        problem = _of_module(module, own)
        if problem is not None:
            return f'{prefix}{problem}'
    return _unequal_shares(model, state)
