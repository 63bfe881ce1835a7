"""A quantized model in the form of which ONNX is written."""
import copy
from dataclasses import dataclass, field

import torch.nn as nn

from mmcompress.lowbit import LowBitLayer
from mmcompress.quantization.attention.multihead import (
    QuantMultiheadAttention)
from mmcompress.quantization.layers import Product, QuantLayer
from mmcompress.quantization.quantizer import Quantizer
from .codes import NoForm, affine
from .layers import rewrite_attention, rewrite_layer

ATTENTION = ('as trained', 'float')


@dataclass
class Converted:
    """A model to export.

    Attributes:
        model (nn.Module): Computes the same as the quantized one, bit for
            bit, unless attentions became float.
        layers (dict[str, str]): The integer layers by name, and the bits of
            weights and inputs.
        floats (dict[str, str]): Low-bit layers and products that stay float,
            and why.
    """
    model: nn.Module
    layers: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)


def _identity_or_affine(quantizer: Quantizer) -> tuple[nn.Module, str | None]:
    """What stands for a quantizer of activations, and why it is no integer."""
    if quantizer.bypass:
        return nn.Identity(), 'its quantizer is switched off'
    try:
        return affine(quantizer), None
    except NoForm as reason:
        # its own operations are exported
        return quantizer, str(reason)


def _replace_quantizers(module: nn.Module) -> list[str]:
    """Replace the quantizers of activations that are children of a module.

    Returns:
        list[str]: Why some are none in ONNX.
    """
    reasons = []
    for key, child in list(module.named_children()):
        if isinstance(child, Quantizer) and key != 'weight_quant':
            new, reason = _identity_or_affine(child)
            setattr(module, key, new)
            if reason is not None:
                reasons.append(f'{key}: {reason}')
    return reasons


def convert(model: nn.Module, attention: str = 'as trained') -> Converted:
    """Rewrite a copy of a model for export.

    Args:
        model (nn.Module): In eval mode; float or quantized, not changed.
        attention (str): ``'as trained'``: queries, keys, values and maps are
            quantized as in the model, with their scales of each head, where
            they have these; ``'float'``: they are not quantized.

    Raises:
        ValueError: On another ``attention``; if a low-bit layer is none that
            ONNX has integers for.
    """
    if attention not in ATTENTION:
        raise ValueError(f'attention must be one of {ATTENTION}, got '
                         f'{attention!r}')
    model = copy.deepcopy(model).float()
    model.requires_grad_(False)
    model.eval()
    converted = Converted(model)
    for name, module in list(model.named_modules()):
        bits = None
        if isinstance(module, LowBitLayer):
            bits = module.operand_bits()
        if isinstance(module, Product):
            if attention == 'float':
                module.a_quant = module.b_quant = None
            reasons = _replace_quantizers(module)
            why = '; '.join(reasons) or _why_float(module)
            if why:
                converted.floats[name] = why
            continue
        reasons = _replace_quantizers(module)
        if isinstance(module, QuantLayer):
            if module.input_quant is None:
                module.input_quant = nn.Identity()
                reasons.append('its input has no quantizer')
            reasons.append(rewrite_layer(module))
        elif isinstance(module, QuantMultiheadAttention):
            for key in ('query_quant', 'key_quant', 'value_quant'):
                if getattr(module, key) is None:
                    setattr(module, key, nn.Identity())
                    reasons.append(f'{key}: its input has no quantizer')
            reasons.append(rewrite_attention(module))
        elif isinstance(module, LowBitLayer):
            reasons.append(f'{type(module).__name__} has no integers in ONNX; '
                           'its operations are exported')
        else:
            continue
        reasons = list(filter(None, reasons))
        if reasons:
            converted.floats[name] = '; '.join(reasons)
        else:
            converted.layers[name] = f'{bits.weight}/{max(bits.activations)}'
    return converted


def _why_float(product: Product) -> str:
    """Why onnxruntime has no integer product of two activations."""
    quantizers = product.a_quant, product.b_quant
    if None in quantizers:
        return 'an operand has no quantizer'
    if any(q.axis is not None for q in quantizers):
        return ('quantized, with a scale for each head, of which onnxruntime '
                'makes a float product')
    return ''
