"""A quantized model in the form of which ONNX is written."""
import copy
from dataclasses import dataclass, field

import torch.nn as nn

from mmcompress.lowbit import LowBitLayer
from mmcompress.quantization.attention.multihead import QuantMultiheadAttention
from mmcompress.quantization.layers import Product, QuantLayer
from mmcompress.quantization.quantizer import Quantizer
from .codes import Affine, NoForm, scales_of
from .layers import rewrite_attention, rewrite_layer, rewrite_product


@dataclass
class Converted:
    """A model to export.

    Attributes:
        model (nn.Module): Computes the same as the quantized one.
        layers (dict[str, str]): What has integers, by name, and the bits of
            both factors.
        floats (dict[str, str]): Low-bit layers and products that have none,
            and why.
    """
    model: nn.Module
    layers: dict[str, str] = field(default_factory=dict)
    floats: dict[str, str] = field(default_factory=dict)


def _replace_quantizers(module: nn.Module) -> list[str]:
    """Replace the quantizers of activations that are children of a module.

    Returns:
        list[str]: Why some have no integers; their own operations are
        exported then.
    """
    reasons = []
    for key, quantizer in list(module.named_children()):
        if not isinstance(quantizer, Quantizer) or key == 'weight_quant':
            continue
        if quantizer.bypass:
            setattr(module, key, nn.Identity())
            reasons.append(f'{key} is switched off')
            continue
        try:
            scales = scales_of(quantizer)
        except NoForm as reason:
            reasons.append(f'{key}: {reason}')
            continue
        if scales.axis is None:
            setattr(module, key,
                    Affine(scales.scale, scales.zero_point, scales.high))
        else:
            reasons.append(f'{key} has {scales.scale.numel()} scales, and an '
                           'integer product one')
    return reasons


def _rewrite(module: nn.Module) -> list[str]:
    """Give a module its form; why it has no integers."""
    if isinstance(module, Product):
        return rewrite_product(module)
    reasons = _replace_quantizers(module)
    if isinstance(module, QuantLayer):
        return reasons + rewrite_layer(module)
    if isinstance(module, QuantMultiheadAttention):
        return reasons + rewrite_attention(module)
    if isinstance(module, LowBitLayer):
        reasons.append(f'{type(module).__name__} has no integers in ONNX')
    return reasons


def convert(model: nn.Module) -> Converted:
    """Rewrite a copy of a model for export.

    Args:
        model (nn.Module): In eval mode; float or quantized, not changed.
    """
    # one by one: train() of some backbones in mm libraries returns None
    model = copy.deepcopy(model).float()
    model.requires_grad_(False)
    model.eval()
    converted = Converted(model)
    for name, module in list(model.named_modules()):
        is_low = isinstance(module, LowBitLayer)
        factors = module.operand_bits().factors if is_low else ()
        reasons = _rewrite(module)
        if is_low and not reasons:
            converted.layers[name] = '/'.join(map(str, factors))
        elif reasons:
            converted.floats[name] = '; '.join(reasons)
    return converted
