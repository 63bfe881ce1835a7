"""Which float layers have quantized classes."""
import torch.nn as nn

from .layers import QuantConv2d, QuantConvTranspose2d, QuantLayer, QuantLinear

_QUANTIZED = {
    nn.Linear: QuantLinear,
    nn.Conv2d: QuantConv2d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
}
# compute what torch's do
_SAME = ('mmcv.cnn.bricks.wrappers', 'torch.nn.modules.linear')


def float_base(layer: nn.Module) -> type[nn.Module] | None:
    """Which of the classes that can be quantized a layer derives from."""
    return next((base for base in type(layer).__mro__ if base in _QUANTIZED),
                None)


def why_not(layer: nn.Module) -> str | None:
    """Why a layer of these can't be quantized; None if it can."""
    base = float_base(layer)
    for cls in type(layer).__mro__:
        if cls is base:
            return None
        if cls.__module__ not in _SAME and vars(cls).keys() & {
                'forward', '_conv_forward'
        }:
            return (f'{cls.__module__}.{cls.__qualname__} computes something '
                    f'else than {base.__name__}')
    return f'{type(layer).__name__} is no linear layer or convolution'


def quantized_class(layer: nn.Module) -> type[QuantLayer]:
    """The quantized class of a layer.

    Raises:
        TypeError: If there is none.
    """
    reason = why_not(layer)
    if reason is not None:
        raise TypeError(reason)
    return _QUANTIZED[float_base(layer)]
