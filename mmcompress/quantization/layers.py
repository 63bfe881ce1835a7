"""Linear layers and convolutions whose operands are quantized."""
import copy
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.lowbit import (FLOAT, InferenceRule, LowBitLayer, OperandBits,
                               num_bytes, refuse_packed)
from mmcompress.precision import at_least_float32
from mmcompress.registry import MODELS
from .integers import integer_rule
from .quantizer import Quantizer


class Place(NamedTuple):
    """Where in a tensor the scales of a quantizer stand.

    Attributes:
        axis (int | None): None: one scale.
        size (int): Number of scales.
    """
    axis: int | None = None
    size: int = 1


def build_quantizer(cfg: dict | None, place: Place) -> Quantizer | None:
    """Build a quantizer for a place.

    Args:
        cfg (dict | None): Its type, with or without the scope, and arguments;
            None: none.
        place (Place): Where its scales stand. A ``per='tensor'`` of the
            config leaves one, as does a method that has only one.

    Raises:
        TypeError: If there is no type, or it is no quantizer.
        ValueError: If ``per`` is something else.
    """
    if cfg is None:
        return None
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError('a quantizer needs a type, such as '
                        f"dict(type='LSQ', bits=4), got {cfg!r}")
    cfg = dict(cfg)
    per, cls = cfg.pop('per', None), cfg.pop('type')
    if isinstance(cls, str):
        with MODELS.switch_scope_and_registry('mmcompress') as registry:
            cls = registry.get(cls) or cls
    if not (isinstance(cls, type) and issubclass(cls, Quantizer)):
        raise TypeError(f'{cls!r} is no quantizer')
    if per not in (None, 'tensor'):
        raise ValueError(f"{cls.__name__}: per must be 'tensor', for one "
                         'scale, or left out, for those of the place, got '
                         f'{per!r}')
    if per == 'tensor' or not cls.per_axis:
        place = Place()
    return cls(**cfg, **place._asdict())


def bits_of(quantizer: Quantizer | None) -> int:
    """Bits of what a quantizer returns; of what has none, a float's."""
    return FLOAT if quantizer is None else quantizer.bits


class QuantLayer(LowBitLayer):
    """What quantized layers share; stands before the float layer's class.

    A float layer becomes one in place (:meth:`swap`): its parameters, their
    names, its hooks and whatever refers to it stay. The two quantizers are
    its children. It computes in float32 at least, also under autocast: codes
    times a scale are not exact in less.

    Args:
        *args: As for the float layer.
        weight_quant (dict | None): Config of the weight's quantizer; None: it
            stays float.
        input_quant (dict | None): Of the input's.
        act_granularity (str): ``'tensor'``: one scale for an input.
            ``'channel'``: one for each input channel, as in the released code
            of Q-ViT and Q-DETR, for which there is no integer product.
        **kwargs: As for the float layer.
    """

    weight_axis = 0
    input_axis = -1

    def __init__(self,
                 *args,
                 weight_quant: dict | None = None,
                 input_quant: dict | None = None,
                 act_granularity: str = 'tensor',
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._attach(weight_quant, input_quant, act_granularity)

    @classmethod
    def swap(cls,
             layer: nn.Module,
             weight_quant: dict | None,
             input_quant: dict | None,
             act_granularity: str = 'tensor') -> None:
        """Turn a float layer into this class, in place.

        Args:
            layer (nn.Module): Of the class that this one derives from, or one
                that computes the same.
            weight_quant (dict | None): As of the class.
            input_quant (dict | None): As of the class.
            act_granularity (str): As of the class.
        """
        layer._float_class = type(layer)
        layer.__class__ = cls
        layer._attach(weight_quant, input_quant, act_granularity)
        layer._listen_to_steps()

    def _attach(self, weight_quant: dict | None, input_quant: dict | None,
                act_granularity: str) -> None:
        weight = self.weight
        inputs = Place()
        if act_granularity not in ('tensor', 'channel'):
            raise ValueError("act_granularity must be 'tensor' or 'channel', "
                             f'got {act_granularity!r}')
        if act_granularity == 'channel':
            inputs = Place(self.input_axis, self.num_inputs)
        self.act_granularity = act_granularity
        self.weight_quant = build_quantizer(
            weight_quant,
            Place(self.weight_axis, weight.shape[self.weight_axis]))
        if self.weight_quant is not None and self.weight_quant.stateful:
            self.weight_quant.be_signed()
        self.input_quant = build_quantizer(input_quant, inputs)
        for quantizer in (self.weight_quant, self.input_quant):
            if quantizer is not None:
                quantizer.to(weight).train(self.training)
                quantizer.requires_grad_(weight.requires_grad)

    @property
    def num_inputs(self) -> int:
        """Channels of the input."""
        raise NotImplementedError

    def to_float(self) -> nn.Module:
        """The layer as it was, with the same parameters."""
        plain = copy.copy(self)
        plain.__dict__ = dict(self.__dict__)
        plain._modules = {
            name: module
            for name, module in self._modules.items()
            if name not in ('weight_quant', 'input_quant')
        }
        float_class = plain.__dict__.pop('_float_class', None)
        if float_class is None:
            return super().to_float()
        plain.__class__ = float_class
        return plain

    def operand_bits(self) -> OperandBits:
        """Those of the two quantizers."""
        return OperandBits(
            bits_of(self.weight_quant), (bits_of(self.input_quant), ))

    def inference_bytes(self) -> int | None:
        """Codes in whole fields of a byte, scales and bias."""
        bits = bits_of(self.weight_quant)
        if bits == FLOAT:
            return None
        field = next(field for field in (1, 2, 4, 8) if field >= bits)
        codes = (self.weight.numel() * field + 7) // 8
        scales = 4 * self.weight.shape[self.weight_axis]
        return codes + scales + num_bytes([self.bias])

    def quantized_weight(self) -> Tensor:
        """The weight as it is multiplied, at least float32."""
        if self.weight_quant is None:
            return at_least_float32(self.weight)
        return self.weight_quant(self.weight)

    def quantized_input(self, x: Tensor) -> Tensor:
        """The input as it is multiplied, at least float32."""
        if self.input_quant is not None:
            x = self.input_quant(x)
        return at_least_float32(x, like=self.weight)

    def forward(self, x: Tensor, *args) -> Tensor:
        """Compute the float layer of quantized operands.

        Args:
            x (Tensor): Of the float layer's input shape.
            *args: As for the float layer.

        Returns:
            Tensor: Of its output shape, in the dtype of the weight, also
            under autocast.
        """
        with torch.autocast(x.device.type, enabled=False):
            bias = self.bias
            if bias is not None:
                bias = at_least_float32(bias)
            y = self._product(
                self.quantized_input(x), self.quantized_weight(), bias, *args)
            return y.to(self.weight.dtype)

    def _product(self, x: Tensor, weight: Tensor,
                 bias: Tensor | None) -> Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def inference_rule(self) -> InferenceRule | None:
        """Integers of both operands; None if it has none.

        See :func:`~mmcompress.quantization.integers.integer_rule`.
        """
        if not self.operand_bits().are_low or isinstance(
                self, nn.ConvTranspose2d):
            return None
        weight = self.weight_quant.quantize_int(self.weight)
        return integer_rule(self.weight_quant, weight, self.input_quant,
                            self.bias, **self._geometry())

    def why_no_integers(self) -> str:
        """Why it has no inference rule, for the tables of packing."""
        if not self.operand_bits().are_low:
            return 'only one of its operands is quantized'
        if isinstance(self, nn.ConvTranspose2d):
            return 'a transposed convolution has no operator of integers'
        inputs, weight = self.input_quant, self.weight_quant
        if not weight.is_symmetric:
            return f"{type(weight).__name__}: its weight's codes are shifted"
        if inputs.grid() is None and inputs.signs() is None:
            return (f'{type(inputs).__name__}: its input has several scales, '
                    'or steps that are no grid')
        if isinstance(self, nn.Conv2d):
            return ('a convolution needs one input scale that stays, a code '
                    'of 0, and zeros around the image')
        return (f'{type(weight).__name__} and {type(inputs).__name__} have no '
                'product of integers')

    def _geometry(self) -> dict:
        return {}

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        refuse_packed(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


@MODELS.register_module()
class QuantLinear(QuantLayer, nn.Linear):
    """Quantized :class:`torch.nn.Linear`, see :class:`QuantLayer`."""

    @property
    def num_inputs(self) -> int:
        return self.in_features

    def _product(self, x: Tensor, weight: Tensor,
                 bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)


@MODELS.register_module()
class QuantConv2d(QuantLayer, nn.Conv2d):
    """Quantized :class:`torch.nn.Conv2d`, see :class:`QuantLayer`."""

    # also of an image without a batch
    input_axis = -3

    @property
    def num_inputs(self) -> int:
        return self.in_channels

    def _product(self, x: Tensor, weight: Tensor,
                 bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def _geometry(self) -> dict:
        return dict(
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups)

    def inference_rule(self) -> InferenceRule | None:
        """None also if it pads other than with zeros."""
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            return None
        return super().inference_rule()


@MODELS.register_module()
class QuantConvTranspose2d(QuantLayer, nn.ConvTranspose2d):
    """Quantized :class:`torch.nn.ConvTranspose2d`, see :class:`QuantLayer`.

    Weights have shape (C_in, C_out / groups, kh, kw), so that their scales
    stand at axis 1.
    """

    weight_axis = 1
    # also of an image without a batch
    input_axis = -3

    @property
    def num_inputs(self) -> int:
        return self.in_channels

    def _product(self,
                 x: Tensor,
                 weight: Tensor,
                 bias: Tensor | None,
                 output_size: list[int] | None = None) -> Tensor:
        padding = self._output_padding(x, output_size, self.stride,
                                       self.padding, self.kernel_size, 2,
                                       self.dilation)
        return F.conv_transpose2d(x, weight, bias, self.stride, self.padding,
                                  padding, self.groups, self.dilation)


class Product(LowBitLayer):
    """Product of two activations, such as queries and keys of an attention.

    A module of its own, so that taps, counters and packers see it.

    Args:
        a_quant (dict | None): Config of the first factor's quantizer; None:
            it stays float.
        b_quant (dict | None): Of the second factor's.
        heads (int | None): Scales of each, at axis 1. None: one.
    """

    def __init__(self,
                 a_quant: dict | None,
                 b_quant: dict | None,
                 heads: int | None = None) -> None:
        super().__init__()
        place = Place() if heads is None else Place(1, heads)
        self.a_quant = build_quantizer(a_quant, place)
        self.b_quant = build_quantizer(b_quant, place)

    def operand_bits(self) -> OperandBits:
        """Those of the two quantizers; it has no weight."""
        return OperandBits(None,
                           (bits_of(self.a_quant), bits_of(self.b_quant)))

    def macs(self, args: tuple, output: Tensor) -> int:
        """Each output is a sum over what both factors share."""
        return output.numel() * args[0].shape[-1]

    def to_float(self) -> 'Product':
        """The product of what it gets."""
        return Product(None, None).train(self.training)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply.

        Args:
            a (Tensor): Shape (B, H, N, D).
            b (Tensor): Shape (B, H, D, M).

        Returns:
            Tensor: Shape (B, H, N, M), at least float32.
        """
        with torch.autocast(a.device.type, enabled=False):
            if self.a_quant is not None:
                a = self.a_quant(a)
            if self.b_quant is not None:
                b = self.b_quant(b)
            return at_least_float32(a) @ at_least_float32(b)
