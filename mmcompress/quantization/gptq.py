"""GPTQ: round a layer's weights so that its output changes least.

Frantar et al., ICLR 2023, arXiv 2210.17323. A layer y = W x that sees inputs
X, K x M, has H = 2 X X^T, whose diagonal gets 0.01 times its mean. Columns of
W are rounded one after the other, that of the largest inputs first; those that
are still real numbers make up for the error of column k, with U the upper
Cholesky factor of H^-1::

    e = (w_k - round(w_k)) / U_kk        w_j -= e U_kj  for j > k

Scales of few bits are chosen before, with the least error of
``sum_k H_kk (w_k - round(w_k))^2``.

Before, where inputs have few bits, W makes up for what quantizing them with
errors E does: it gets ``W E X^T (X X^T)^-1`` more, damped likewise.

A convolution is such a layer for the patches that its kernel sees, each group
for itself, and so is each of the three projections of a
:class:`torch.nn.MultiheadAttention`.
"""
from collections.abc import Callable, Iterable

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.precision import at_least_float32
from .attention.multihead import QuantMultiheadAttention
from .calibration import FEW_BITS, predict
from .layers import QuantConv2d, QuantLinear
from .lsq import LSQ
from .quantizer import Quantizer
from .ranges import mse_scale

_DAMPING = 0.01
# columns whose errors reach the ones behind them at once
_BLOCK = 64
# layers that are rounded after one run over the images
_AT_ONCE = 8


def _factor(hessian: Tensor) -> Tensor:
    """The lower Cholesky factor of the damped matrices, in float64."""
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    damping = _DAMPING * diagonal.mean(1, keepdim=True)
    # columns of inputs that were always 0 don't matter
    damping = torch.where(diagonal > 0, damping, 1)
    damped = hessian + torch.diag_embed(damping)
    return torch.linalg.cholesky(damped.double())


def _inverse_factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse."""
    inverse = torch.cholesky_inverse(_factor(hessian))
    return torch.linalg.cholesky(inverse, upper=True).to(hessian)


def _permuted(hessian: Tensor, order: Tensor) -> Tensor:
    """Rows and columns of matrices in another order, shape (G, K)."""
    rows = hessian.gather(1, order[:, :, None].expand_as(hessian))
    return rows.gather(2, order[:, None].expand_as(hessian))


def gptq(weight: Tensor, hessian: Tensor,
         quantize: Callable[[Tensor], Tensor]) -> Tensor:
    """Round the columns of matrices, each making up for those before.

    Args:
        weight (Tensor): Shape (G, O, K), for each of G groups.
        hessian (Tensor): Positive multiples of X X^T, shape (G, K, K).
        quantize (Callable): Rounds a column, shape (G, O).

    Returns:
        Tensor: Rounded, shape (G, O, K).
    """
    order = hessian.diagonal(dim1=1, dim2=2).argsort(1, descending=True)
    index = order[:, None].expand_as(weight)
    weight = weight.gather(2, index)
    factor = _inverse_factor(_permuted(hessian, order))
    rounded = torch.empty_like(weight)
    for start in range(0, weight.shape[2], _BLOCK):
        stop = min(start + _BLOCK, weight.shape[2])
        errors = []
        for k in range(start, stop):
            column = quantize(weight[:, :, k])
            error = (weight[:, :, k] - column) / factor[:, k, k, None]
            weight[:, :, k + 1:stop] -= (
                error[:, :, None] * factor[:, None, k, k + 1:stop])
            rounded[:, :, k] = column
            errors.append(error)
        weight[:, :, stop:] -= (
            torch.stack(errors, 2) @ factor[:, start:stop, stop:])
    return torch.empty_like(rounded).scatter_(2, index, rounded)


def make_up(weight: Tensor, hessian: Tensor, cross: Tensor) -> Tensor:
    """Change matrices so that products with quantized inputs are as before.

    Args:
        weight (Tensor): Shape (G, O, K).
        hessian (Tensor): X X^T of quantized inputs, shape (G, K, K).
        cross (Tensor): E X^T, of what quantizing took away from them.

    Returns:
        Tensor: Shape (G, O, K).
    """
    change = torch.cholesky_solve((weight @ cross).mT.double(),
                                  _factor(hessian))
    return weight + change.mT.to(weight)


def input_columns(layer: nn.Module, x: Tensor) -> Tensor:
    """What the columns of a layer's weight are multiplied with.

    Args:
        layer (nn.Module): Linear layer, attention or convolution.
        x (Tensor): An input, of any shape that the layer takes.

    Returns:
        Tensor: Shape (G, K, M), for G groups and M outputs of a channel.
    """
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(1, -1, x.shape[-1]).mT
    mode = layer.padding_mode
    x = F.pad(
        x,
        layer._reversed_padding_repeated_twice,
        mode='constant' if mode == 'zeros' else mode)
    patches = F.unfold(
        x, layer.kernel_size, layer.dilation, stride=layer.stride)
    # (N, G K, L)
    patches = patches.unflatten(1, (layer.groups, -1))
    return patches.permute(1, 2, 0, 3).flatten(2)


class _Grams:
    """Sums X X^T over all calls of a layer.

    Args:
        layer (nn.Module): See :func:`_can_be_rounded`.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.sums: dict[nn.Module, Tensor] = {}
        # of errors and inputs
        self.cross: dict[nn.Module, Tensor] = {}
        self.num_calls = 0
        self.handles = [
            quantizer.register_forward_hook(self._add)
            for quantizer in _input_quantizers(layer)
        ]

    def _add(self, quantizer: Quantizer, args: tuple, x: Tensor) -> None:
        self.num_calls += 1
        if not isinstance(self.layer, nn.Conv2d):
            self._add_part(quantizer, args[0], x)
            return
        # one after the other: patches are many times as large
        for before, after in zip(args[0].split(1), x.split(1)):
            self._add_part(quantizer, before, after)

    def _add_part(self, quantizer: Quantizer, before: Tensor,
                  after: Tensor) -> None:
        columns = input_columns(self.layer, after)
        gram = columns @ columns.mT
        self.sums[quantizer] = self.sums.get(quantizer, 0) + gram
        if quantizer.bits <= FEW_BITS:
            errors = input_columns(self.layer, before - after)
            cross = errors @ columns.mT
            self.cross[quantizer] = self.cross.get(quantizer, 0) + cross

    def stop(self) -> None:
        """Look no more."""
        for handle in self.handles:
            handle.remove()

    def round(self, fit_scales: bool) -> None:
        """Round the layer's weight; before, fit its scales if wanted."""
        layer = self.layer
        hessian = torch.cat([self.sums[q] for q in _input_quantizers(layer)])
        weight = _weight(layer)
        matrices = at_least_float32(weight).reshape(
            len(hessian), -1, hessian.shape[1])
        if self.cross:
            cross = [self.cross[q] for q in _input_quantizers(layer)]
            matrices = make_up(matrices, hessian, torch.cat(cross))
        if fit_scales and layer.weight_quant.bits <= FEW_BITS:
            _fit_scales(layer.weight_quant, matrices, hessian)

        def quantize(column: Tensor) -> Tensor:
            return layer.weight_quant(column.reshape(-1, 1)).view_as(column)

        weight.copy_(gptq(matrices, hessian, quantize).view_as(weight))


def _fit_scales(quantizer: LSQ, matrices: Tensor, hessian: Tensor) -> None:
    """Choose scales for what inputs make of errors."""
    importance = hessian.diagonal(dim1=1, dim2=2)[:, None]
    rows = quantizer._rows(matrices.flatten(0, 1))
    importance = importance.expand_as(matrices).reshape_as(rows)
    scale = mse_scale(
        rows,
        quantizer._summarize(matrices.flatten(0, 1), sync=False),
        quantizer.low,
        quantizer.high,
        sync=False,
        importance=importance)
    quantizer.adopt(scale, torch.zeros_like(scale))


def _weight(layer: nn.Module) -> nn.Parameter:
    if isinstance(layer, QuantMultiheadAttention):
        return layer.in_proj_weight
    return layer.weight


def _input_quantizers(layer: nn.Module) -> list[Quantizer]:
    """Those of what groups of the weight's rows are multiplied with."""
    if isinstance(layer, QuantMultiheadAttention):
        return [layer.query_quant, layer.key_quant, layer.value_quant]
    return [layer.input_quant]


def _can_be_rounded(layer: nn.Module) -> bool:
    # codes of other quantizers may depend on all of a weight
    return (isinstance(layer,
                       (QuantLinear, QuantConv2d, QuantMultiheadAttention))
            and isinstance(layer.weight_quant, LSQ)
            and layer.weight_quant.is_initialized
            and None not in _input_quantizers(layer))


class _AllCalled(Exception):
    """What follows in the model is not needed."""


def _run_until(model: nn.Module, batch: dict, grams: list[_Grams],
               num_calls: int) -> None:
    """Run a model until layers have been called a number of times."""
    last = sum(g.num_calls for g in grams) + num_calls

    def check(module: nn.Module, args: tuple, output) -> None:
        if sum(g.num_calls for g in grams) == last:
            raise _AllCalled

    handles = [g.layer.register_forward_hook(check) for g in grams]
    try:
        predict(model, batch)
    except _AllCalled:
        pass
    finally:
        for handle in handles:
            handle.remove()


def _calls(model: nn.Module, layers: list[nn.Module],
           batch: dict) -> dict[nn.Module, int]:
    """How often a batch calls layers, in the order of the first calls."""
    calls: dict[nn.Module, int] = {}

    def count(quantizer: nn.Module, args: tuple) -> None:
        layer = owners[quantizer]
        calls[layer] = calls.get(layer, 0) + 1

    owners = {q: layer for layer in layers for q in _input_quantizers(layer)}
    handles = [q.register_forward_pre_hook(count) for q in owners]
    predict(model, batch)
    for handle in handles:
        handle.remove()
    return calls


@torch.no_grad()
def round_weights(
    model: nn.Module,
    batches: list[dict],
    progress: Callable[[list, str], Iterable] = lambda items, _: items,
    fit_scales: bool = True,
) -> list[str]:
    """Round weights by GPTQ: of linear layers, convolutions and attentions.

    Layers are rounded in the order in which the model calls them, some at
    once; their inputs are what the quantized layers before them give. Of a
    layer that is called several times, all calls count. The weights become
    multiples of their scales, so that the quantizers, which stay, round them
    to themselves, and training can go on from there.

    Args:
        model (nn.Module): In eval mode, after
            :func:`~mmcompress.quantization.calibration.calibrate`.
        batches (list[dict]): As a data loader gives them, the largest first.
        progress (Callable): Wraps a list that it gets with a title.
        fit_scales (bool): Whether scales of up to 4 bits are chosen anew.

    Returns:
        list[str]: Modules with quantized weights that were not rounded: of
        other kinds, or never called.
    """
    names = {
        module: name
        for name, module in model.named_modules()
        if getattr(module, 'weight_quant', None) is not None
    }
    layers = [layer for layer in names if _can_be_rounded(layer)]
    calls = _calls(model, layers, batches[0])
    order = list(calls)
    groups = [order[i:i + _AT_ONCE] for i in range(0, len(order), _AT_ONCE)]
    for group in progress(groups, 'GPTQ'):
        grams = [_Grams(layer) for layer in group]
        try:
            for batch in batches:
                _run_until(model, batch, grams, sum(calls[x] for x in group))
        finally:
            for gram in grams:
                gram.stop()
        for gram in grams:
            gram.round(fit_scales)
    return [name for layer, name in names.items() if layer not in calls]
