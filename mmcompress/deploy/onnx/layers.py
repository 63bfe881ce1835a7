"""Quantized layers in the form that onnxruntime turns into integers."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.quantization.attention.dot_product import split_heads
from mmcompress.quantization.attention.multihead import (
    _INPUTS, QuantMultiheadAttention)
from mmcompress.quantization.layers import (Product, QuantConv2d,
                                            QuantConvTranspose2d, QuantLayer,
                                            QuantLinear)
from .codes import Affine, NoForm, scales_of, weight_codes
from .operators import dequantize

# ---- Weights ---------------------------------------------------------------


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
        self.register_buffer('scale', scale.contiguous())
        self.axis = axis

    def columns(self, part: slice) -> 'Stored':
        """Some output channels of a linear layer."""
        return Stored(self.codes[:, part], self.scale[part], self.axis)

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

    def columns(self, part: slice) -> 'Real':
        """Some output channels of a linear layer."""
        return Real(self.weight[:, part])

    def forward(self) -> Tensor:
        """The real values."""
        return self.weight


def _stored(layer: nn.Module, weight: Tensor, axis: int,
            is_linear: bool) -> tuple[Stored | Real, str | None]:
    """A weight to export, a linear layer's as (K, N); why it has no codes."""
    quantizer = layer.weight_quant
    turned = weight.t() if is_linear else weight
    if quantizer is None or quantizer.bypass:
        return Real(turned), 'its weight has no quantizer'
    try:
        codes, scale = weight_codes(quantizer, weight, axis)
    except NoForm as reason:
        real = quantizer(weight)
        return Real(real.t() if is_linear else real), f'its weight: {reason}'
    if is_linear:
        return Stored(codes.t(), scale, 1), None
    return Stored(codes, scale, axis), None


# ---- Layers ----------------------------------------------------------------


def _product(x: Tensor, quantizer: nn.Module, weight: Tensor,
             bias: Tensor | None) -> Tensor:
    """Linear layer as a product of at least three dimensions.

    onnxruntime takes a product of two dimensions, or one with a bias of one,
    for a float layer before it looks for integers.

    Args:
        x (Tensor): Shape (..., K).
        quantizer (nn.Module): Of it.
        weight (Tensor): Shape (K, N).
        bias (Tensor | None): Shape (1, 1, N).

    Returns:
        Tensor: Shape (..., N).
    """
    is_flat = x.dim() == 2
    x = x.float()
    y = torch.matmul(quantizer(x[None] if is_flat else x), weight)
    if bias is not None:
        y = y + bias
    return y[0] if is_flat else y


def _as_row(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach().float().reshape(1, 1, -1)


class _Linear(nn.Linear):

    def forward(self, x: Tensor) -> Tensor:
        return _product(x, self.input_quant, self.stored(), self.row)


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


def rewrite_layer(layer: QuantLayer) -> list[str]:
    """Give a quantized layer its form for export, in place.

    Args:
        layer (QuantLayer): Its quantizer of inputs is replaced already.

    Returns:
        list[str]: Why it has no integers.
    """
    is_linear = isinstance(layer, QuantLinear)
    layer.stored, reason = _stored(layer, layer.weight, layer.weight_axis,
                                   is_linear)
    layer.__class__ = next(form for kind, form in _FORMS.items()
                           if isinstance(layer, kind))
    if is_linear:
        layer.register_buffer('row', _as_row(layer.bias))
    del layer.weight_quant
    reasons = [] if reason is None else [reason]
    if layer.input_quant is None:
        layer.input_quant = nn.Identity()
        reasons.append('its input has no quantizer')
    return reasons


class _Attention(QuantMultiheadAttention):

    def project(self, query: Tensor, key: Tensor,
                value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outs = []
        for x, name in zip((query, key, value), _INPUTS):
            weight = getattr(self, f'{name}_stored')()
            y = _product(x, getattr(self, name), weight,
                         getattr(self, f'{name}_row'))
            outs.append(split_heads(y, self.num_heads))
        return tuple(outs)


def rewrite_attention(attn: QuantMultiheadAttention) -> list[str]:
    """The same for an attention, whose packed weight becomes three.

    Args:
        attn (QuantMultiheadAttention): Its quantizers of inputs are replaced
            already.

    Returns:
        list[str]: Why its projections have no integers.
    """
    stored, reason = _stored(attn, attn.in_proj_weight, 0, True)
    reasons = [] if reason is None else [reason]
    rows = len(attn.in_proj_weight) // 3
    for i, name in enumerate(_INPUTS):
        part = slice(i * rows, (i + 1) * rows)
        attn.add_module(f'{name}_stored', stored.columns(part))
        bias = attn.in_proj_bias
        attn.register_buffer(f'{name}_row',
                             _as_row(None if bias is None else bias[part]))
        if getattr(attn, name) is None:
            setattr(attn, name, nn.Identity())
            reasons.append(f'{name}: there is none')
    attn.__class__ = _Attention
    del attn.weight_quant
    return reasons


# ---- Products of two activations -------------------------------------------


class _Heads(Product):
    """Product of activations, in units of the scales of each head.

    onnxruntime has one scale of an activation. Values are divided by those of
    their heads first, and the product is multiplied by both.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a = self.a_quant(a.float() / self.a_unit)
        b = self.b_quant(b.float() / self.b_unit)
        return a @ b * self.unit


def rewrite_product(product: Product) -> list[str]:
    """Give a product of two activations its form for export, in place.

    Args:
        product (Product): As it is in the quantized model.

    Returns:
        list[str]: Why it has no integers. Then it stays as it is.
    """
    quantizers = product.a_quant, product.b_quant
    if None in quantizers or any(q.bypass for q in quantizers):
        return ['an operand has no quantizer']
    try:
        scales = [scales_of(quantizer) for quantizer in quantizers]
    except NoForm as reason:
        return [str(reason)]
    for x in scales:
        if x.axis not in (None, 1) or x.zero_point.unique().numel() > 1:
            return ['each head has another code of 0, for which there is no '
                    'integer product']  # yapf: disable
    units = [x.scale.view(1, -1, 1, 1) for x in scales]
    for key, x, unit in zip('ab', scales, units):
        product.register_buffer(f'{key}_unit', unit)
        setattr(product, f'{key}_quant', Affine(1., x.zero_point[0], x.high))
    product.register_buffer('unit', units[0] * units[1])
    product.__class__ = _Heads
    return []
