"""Quantized layers in the form that onnxruntime turns into integers."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.quantization.attention.dot_product import split_heads
from mmcompress.quantization.attention.multihead import (
    _INPUTS, QuantMultiheadAttention)
from mmcompress.quantization.layers import (QuantConv2d, QuantConvTranspose2d,
                                            QuantLayer, QuantLinear)
from .codes import NoForm, weight_codes
from .operators import dequantize


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Linear layer as a product of at least three dimensions.

    onnxruntime takes a product of two dimensions, or one with a bias of one,
    for a float layer before it looks for integers.

    Args:
        x (Tensor): Shape (..., K).
        weight (Tensor): Shape (K, N).
        bias (Tensor | None): Shape (1, 1, N).

    Returns:
        Tensor: Shape (..., N).
    """
    is_flat = x.dim() == 2
    y = torch.matmul(x[None] if is_flat else x, weight)
    if bias is not None:
        y = y + bias
    return y[0] if is_flat else y


def _as_row(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().float().view(1, 1, -1)


class Stored(nn.Module):
    """A weight as codes and scales.

    Args:
        codes (Tensor): int8.
        scale (Tensor): float32, shape (size of the axis, ).
        axis (int): Of the scales.
    """

    def __init__(self, codes: Tensor, scale: Tensor, axis: int) -> None:
        super().__init__()
        self.register_buffer('codes', codes.contiguous())
        self.register_buffer('scale', scale)
        self.axis = axis

    def forward(self) -> Tensor:
        """The real values."""
        return dequantize(self.codes, self.scale, self.axis)


class Real(nn.Module):
    """A weight of which there are no codes.

    Args:
        weight (Tensor): As it is multiplied.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer('weight', weight.detach().float().contiguous())

    def forward(self) -> Tensor:
        """The real values."""
        return self.weight


class _Linear(nn.Linear):

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_quant(x.float())
        return product(x, self.stored(), self.bias_row)


class _Conv2d(nn.Conv2d):

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_quant(x.float())
        return self._conv_forward(x, self.stored(), self.bias)


class _ConvTranspose2d(nn.ConvTranspose2d):

    def forward(self,
                x: Tensor,
                output_size: list[int] | None = None) -> Tensor:
        x = self.input_quant(x.float())
        padding = self._output_padding(x, output_size, self.stride,
                                       self.padding, self.kernel_size, 2,
                                       self.dilation)
        return F.conv_transpose2d(x, self.stored(), self.bias, self.stride,
                                  self.padding, padding, self.groups,
                                  self.dilation)


_FORMS = {
    QuantLinear: _Linear,
    QuantConv2d: _Conv2d,
    QuantConvTranspose2d: _ConvTranspose2d
}


def _stored(layer: nn.Module, axis: int, weight: Tensor,
            transposed: bool) -> tuple[nn.Module, str | None]:
    """A weight to export, and why it has no codes."""
    turn = torch.t if transposed else torch.clone
    quantizer = layer.weight_quant
    if quantizer is None:
        return Real(turn(weight.detach())), 'its weight has no quantizer'
    try:
        codes, scale = weight_codes(quantizer, weight, axis)
    except NoForm as reason:
        return Real(turn(quantizer(weight).detach())), f'its weight: {reason}'
    return Stored(turn(codes), scale, 1 - axis if transposed else axis), None


def rewrite_layer(layer: QuantLayer) -> str | None:
    """Give a quantized layer its form for export, in place.

    Args:
        layer (QuantLayer): A layer that is not used otherwise afterwards,
            with what :func:`~.convert.convert` puts in place of its
            ``input_quant``.

    Returns:
        str | None: Why its weight has no codes; None if it has.
    """
    is_linear = isinstance(layer, QuantLinear)
    stored, reason = _stored(layer, layer.weight_axis, layer.weight, is_linear)
    layer.__class__ = next(form for kind, form in _FORMS.items()
                           if isinstance(layer, kind))
    layer.stored = stored
    if is_linear:
        layer.register_buffer('bias_row', _as_row(layer.bias))
    del layer.weight_quant
    return reason


class _Attention(QuantMultiheadAttention):

    def project(self, query: Tensor, key: Tensor,
                value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outs = []
        for i, (x, name) in enumerate(zip((query, key, value), _INPUTS)):
            x = getattr(self, name)(x.float())
            bias = getattr(self, f'bias_row{i}')
            y = product(x, getattr(self, f'stored{i}')(), bias)
            outs.append(split_heads(y, self.num_heads))
        return tuple(outs)


def rewrite_attention(attn: QuantMultiheadAttention) -> str | None:
    """The same for an attention, whose weight becomes three.

    Args:
        attn (QuantMultiheadAttention): As of :func:`rewrite_layer`.

    Returns:
        str | None: As there.
    """
    stored, reason = _stored(attn, 0, attn.in_proj_weight, True)
    biases = [None] * 3
    if attn.in_proj_bias is not None:
        biases = attn.in_proj_bias.chunk(3)
    for i in range(3):
        rows = slice(i * attn.embed_dim, (i + 1) * attn.embed_dim)
        if isinstance(stored, Real):
            part = Real(stored.weight[:, rows])
        else:
            part = Stored(stored.codes[:, rows], stored.scale[rows].clone(), 1)
        attn.add_module(f'stored{i}', part)
        attn.register_buffer(f'bias_row{i}', _as_row(biases[i]))
    attn.__class__ = _Attention
    del attn.weight_quant
    return reason
