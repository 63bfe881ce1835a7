"""Which float layers have quantized classes."""
import torch.nn as nn

from mmcompress.lowbit.replace import own_forward
from .layers import QuantConv2d, QuantConvTranspose2d, QuantLayer, QuantLinear

_QUANTIZED = {
    nn.Linear: QuantLinear,
    nn.Conv2d: QuantConv2d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
}


def float_base(layer: nn.Module) -> type[nn.Module] | None:
    """Which of the classes that can be quantized a layer derives from."""
    return next((base for base in type(layer).__mro__ if base in _QUANTIZED),
                None)


def why_not(layer: nn.Module) -> str | None:
    """Why a layer of these can't be quantized; None if it can."""
    base = float_base(layer)
    if base is None:
        return f'{type(layer).__name__} is no linear layer or convolution'
    other = own_forward(type(layer), base)
    if other is None:
        return None
    return (f'{other.__module__}.{other.__qualname__} computes something else '
            f'than {base.__name__}')


def quantized_class(layer: nn.Module) -> type[QuantLayer]:
    """The quantized class of a layer.

    Raises:
        TypeError: If there is none.
    """
    reason = why_not(layer)
    if reason is not None:
        raise TypeError(reason)
    return _QUANTIZED[float_base(layer)]
