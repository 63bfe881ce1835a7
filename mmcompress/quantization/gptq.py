"""GPTQ: round a layer's weights so that its output changes least.

Frantar et al., ICLR 2023, arXiv 2210.17323. A layer y = W x with inputs X, K x
M, has H = 2 X X^T, whose diagonal gets 0.01 times its mean. Columns of W are
rounded one after the other; with U the upper Cholesky factor of H^-1, those
that are still real numbers make up for the error of column k::

    e = (w_k - round(w_k)) / U_kk        w_j -= e U_kj  for j > k

A convolution is such a layer for the patches that its kernel sees, in groups
each group for itself.
"""
from collections.abc import Callable, Iterable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from .calibration import predict
from .layers import QuantConv2d, QuantLayer, QuantLinear
from .lsq import LSQ

_DAMPING = 0.01
# columns whose errors reach the ones behind them at once
_BLOCK = 64
# layers in one run over the images
_AT_ONCE = 8


def input_columns(layer: QuantLayer, x: Tensor) -> Tensor:
    """What the columns of a layer's weight are multiplied with.

    Args:
        layer (QuantLayer): Linear layer or convolution.
        x (Tensor): Its quantized input.

    Returns:
        Tensor: Shape (G, K, M), for G groups and M outputs of a channel.
    """
    if isinstance(layer, QuantLinear):
        return x.reshape(1, -1, x.shape[-1]).mT
    padding = layer._reversed_padding_repeated_twice
    if layer.padding_mode != 'zeros':
        x = F.pad(x, padding, mode=layer.padding_mode)
    else:
        x = F.pad(x, padding)
    patches = F.unfold(
        x, layer.kernel_size, layer.dilation, stride=layer.stride)
    # (N, G K, L)
    columns = patches.unflatten(1, (layer.groups, -1))
    return columns.permute(1, 2, 0, 3).flatten(2)


def gptq(weight: Tensor, hessian: Tensor, quantize) -> Tensor:
    """Round the columns of a matrix, each making up for those before.

    Args:
        weight (Tensor): Shape (G, O, K), for each of G groups.
        hessian (Tensor): Shape (G, K, K), with zeros where an input was
            always 0.
        quantize (Callable): Rounds a column, shape (G, O).

    Returns:
        Tensor: Rounded, shape (G, O, K).
    """
    weight = weight.clone()
    rounded = torch.empty_like(weight)
    inverse = _inverse_factor(hessian)
    num = weight.shape[2]
    for start in range(0, num, _BLOCK):
        stop = min(start + _BLOCK, num)
        errors = []
        for k in range(start, stop):
            column = weight[:, :, k]
            rounded[:, :, k] = quantize(column)
            error = column - rounded[:, :, k]
            error = error / inverse[:, k, k, None]
            weight[:, :, k + 1:stop] -= (
                error[:, :, None] * inverse[:, None, k, k + 1:stop])
            errors.append(error)
        weight[:, :, stop:] -= (
            torch.stack(errors, 2) @ inverse[:, start:stop, stop:])
    return rounded


def _inverse_factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damping = _DAMPING * diagonal.mean(1, keepdim=True)
    # columns of inputs that are always 0 don't matter
    damping = torch.where(diagonal > 0, damping, 1)
    damped = (hessian + torch.diag_embed(damping)).double()
    factor = torch.linalg.cholesky(damped)
    inverse = torch.cholesky_inverse(factor)
    return torch.linalg.cholesky(inverse, upper=True).to(hessian)


class _Gram:
    """Sums X X^T of a layer over all of its calls."""

    def __init__(self, layer: QuantLayer) -> None:
        self.layer = layer
        self.sum: Tensor | float = 0.

    def __call__(self, layer: QuantLayer, args: tuple) -> None:
        # one image after the other: patches are many times as large
        for x in layer.quantized_input(args[0]).split(1):
            columns = input_columns(layer, x)
            self.sum = columns @ columns.mT + self.sum

    def round(self) -> None:
        """Round the layer's weight."""
        layer = self.layer
        weight = at_least_float32(layer.weight)
        groups = len(self.sum)

        def quantize(column: Tensor) -> Tensor:
            return layer.weight_quant(column.reshape(-1, 1)).view_as(column)

        rounded = gptq(
            weight.reshape(groups, weight.shape[0] // groups, -1), self.sum,
            quantize)
        layer.weight.copy_(rounded.view_as(weight))


def _in_order(model: nn.Module, layers: Iterable[nn.Module],
              batch: dict) -> list[nn.Module]:
    """Layers that a model calls, in the order of their first calls."""
    called: dict[nn.Module, None] = {}
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, args: called.setdefault(layer)) for layer in layers
    ]
    predict(model, batch)
    for handle in handles:
        handle.remove()
    return list(called)


@torch.no_grad()
def round_weights(
    model: nn.Module,
    batches: list[dict],
    progress: Callable[[Iterable, str], Iterable] = lambda items, _: items
) -> list[str]:
    """Round the weights of linear layers and convolutions by GPTQ.

    Layers are rounded in the order in which the model calls them, some at
    once; their inputs are what the quantized layers before them give. Of a
    layer that is called several times, all calls count. The weights become
    multiples of their scales, so that the quantizers, which stay, round them
    to themselves, and training can go on from there.

    Args:
        model (nn.Module): Calibrated, in eval mode, see
            :func:`~mmcompress.quantization.calibration.calibrate`.
        batches (list[dict]): As a data loader gives them.
        progress (Callable): Wraps an iterable that it gets with a name.

    Returns:
        list[str]: Modules with quantized weights that were not rounded here:
        of other kinds, or never called.
    """
    names = {
        module: name
        for name, module in model.named_modules()
        if getattr(module, 'weight_quant', None) is not None
    }
    layers = [layer for layer in names if _can_be_rounded(layer)]
    order = _in_order(model, layers, batches[0])
    groups = [order[i:i + _AT_ONCE] for i in range(0, len(order), _AT_ONCE)]
    for group in progress(groups, 'GPTQ'):
        grams = [_Gram(layer) for layer in group]
        handles = [g.layer.register_forward_pre_hook(g) for g in grams]
        try:
            for batch in batches:
                predict(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        for gram in grams:
            gram.round()
    return [name for layer, name in names.items() if layer not in order]


def _can_be_rounded(layer: nn.Module) -> bool:
    # others of their quantizers' codes may depend on all of a weight
    return (isinstance(layer, (QuantLinear, QuantConv2d))
            and isinstance(layer.weight_quant, LSQ)
            and layer.weight_quant.is_initialized)
