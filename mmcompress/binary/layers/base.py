"""What 1-bit layers share: checkpoints, dtypes, geometry."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmcompress.lowbit import (FLOAT, InferenceRule, LowBitLayer, OperandBits,
                               refuse_packed)
from mmcompress.pixels import as_pixels, from_pixels
from mmcompress.precision import at_least_float32
from .binary_conv import binary_conv2d
from .sign import binary_sign, bireal_sign


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise a ``ValueError`` unless an argument is one of the allowed ones."""
    if value not in allowed:
        options = ' or '.join(map(repr, allowed))
        raise ValueError(f'{name} must be {options}, got {value!r}')


class _BinaryLayer(LowBitLayer):
    """What the layers share; stands before the float layer's class."""

    # until the constructor has its arguments
    binary_weight = False

    def __init__(self,
                 *args,
                 zero_as: str = 'neg',
                 binary_weight: bool = True,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('zero_as', zero_as, ('neg', 'zero'))
        self.zero_as = zero_as
        self.binary_weight = binary_weight
        self._listen_to_steps()

    def _listen_to_steps(self) -> None:
        # the first step of the two-step pretraining adds nothing
        if self.binary_weight:
            super()._listen_to_steps()

    def operand_bits(self) -> OperandBits:
        """1 and 1; a weight that is still real is no operand of a kernel."""
        return OperandBits(1 if self.binary_weight else FLOAT, (1, ))

    def binarize_input(self, x: Tensor) -> Tensor:
        """Signs of the input, same shape and dtype, at least float32."""
        return bireal_sign(x, self.zero_as)

    def binarize_weight(self) -> Tensor:
        """Signs times :meth:`weight_scale`, with the method's gradient.

        Returns:
            Tensor: Shape of the weight, at least float32.
        """
        raise NotImplementedError

    def latent_weight(self) -> Tensor:
        """The weight whose signs are taken in eval mode."""
        return self.weight

    def weight_scale(self) -> Tensor:
        """Scale of each output channel, shape (C_out, ), not negative."""
        raise NotImplementedError

    def threshold(self) -> Tensor:
        """Inputs above it are +1, shape (C_in, )."""
        return self.weight.new_zeros(self.weight.shape[1])

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """What, besides a bias, a float layer's checkpoint lacks.

        Args:
            weight (Tensor): The checkpoint's, of this layer's shape.

        Returns:
            dict[str, Tensor]: By name in this layer's state dict.
        """
        return {}

    def at_least_float32(self, x: Tensor) -> Tensor:
        """Half precision can't count; and float64 stays float64."""
        return at_least_float32(x, like=self.weight)

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        refuse_packed(state_dict, prefix)
        flat = state_dict.pop(f'{prefix}weights', None)
        if flat is not None:
            state_dict[f'{prefix}weight'] = flat.reshape(self.weight.shape)
        weight = state_dict.get(f'{prefix}weight')
        if weight is not None and weight.shape == self.weight.shape:
            state = self.initial_state(weight)
            if self.bias is not None:
                state['bias'] = torch.zeros_like(self.bias)
            for name, value in state.items():
                state_dict.setdefault(f'{prefix}{name}', value)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _geometry(self) -> dict:
        """The part of the inference rule that only convolutions have."""
        return {}

    @torch.no_grad()
    def inference_rule(self) -> InferenceRule:
        """What the layer computes in eval mode, for packing.

        Raises:
            ValueError: If the weight is real (``binary_weight=False``).
        """
        if not self.binary_weight:
            raise ValueError('a layer with binary_weight=False has no 1-bit '
                             'weight to infer with')
        signs = binary_sign(self.at_least_float32(self.latent_weight()))
        bias = None if self.bias is None else self.bias.detach()
        return InferenceRule(
            codes=signs.reshape(*signs.shape,
                                *(1, ) * (4 - signs.dim())),
            scale=self.at_least_float32(self.weight_scale()),
            bias=None if bias is None else self.at_least_float32(bias),
            threshold=self.at_least_float32(self.threshold()),
            **self._geometry())


class BinaryConv2d(_BinaryLayer, nn.Conv2d):
    """Base of the 1-bit convolutions.

    ``y = conv2d(binarize_input(x), binarize_weight()) + bias``. A subclass
    gives ``binarize_weight`` and ``weight_scale``, and where it differs,
    ``binarize_input``, ``latent_weight``, ``threshold`` and ``pad_value``. It
    names :class:`torch.nn.Conv2d` as a base, too: mmengine looks for the
    ``layer='Conv2d'`` of an ``init_cfg`` among direct bases.

    Arguments and attributes are those of :class:`torch.nn.Conv2d`. So is the
    state dict, to which a subclass may add. A checkpoint of a float
    convolution loads: the additions are those of ``initial_state``, a missing
    ``bias`` is 0. A flat ``weights``, the official name in some 1-bit
    networks, loads as ``weight``.

    Args:
        *args: As for :class:`torch.nn.Conv2d`.
        zero_as (str): ``'neg'``: bit = ``x > 0``. ``'zero'``: zeros stay 0,
            which no bit can hold, as in the official training.
        binary_weight (bool): False: only the input is binarised, the weight
            stays real; the first step of the two-step pretraining. Its
            checkpoint loads into a 1-bit layer like a float one.
        **kwargs: As for :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: On an unknown ``zero_as``, a padding mode other than
            ``'zeros'``, or padding given as text.
    """

    pad_value = 0

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            raise ValueError(
                'a 1-bit convolution pads with a constant, by a given number; '
                f'got padding={self.padding!r}, '
                f'padding_mode={self.padding_mode!r}')

    def threshold(self) -> Tensor:
        """Inputs above it are +1, shape (C_in, )."""
        return self.weight.new_zeros(self.in_channels)

    def _geometry(self) -> dict:
        return dict(
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            pad_value=self.pad_value)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): Real-valued, shape (N, in_channels, H, W).

        Returns:
            Tensor: Shape (N, out_channels, H_out, W_out), in the dtype of the
            weight, also under autocast.
        """
        return self.convolve(self.binarize_input(self.at_least_float32(x)))

    def convolve(self, signs: Tensor) -> Tensor:
        """Convolve an input that is binarised already.

        Args:
            signs (Tensor): -1 and +1, shape (N, in_channels, H, W).

        Returns:
            Tensor: As of :meth:`forward`.
        """
        padding = self.padding
        if self.pad_value != 0:
            high, wide = padding
            signs = F.pad(
                signs, (wide, wide, high, high), value=self.pad_value)
            padding = 0, 0
        geometry = self.stride, padding, self.dilation, self.groups
        if not self.binary_weight:
            return F.conv2d(
                signs.to(self.weight.dtype), self.weight, self.bias, *geometry)
        y = binary_conv2d(signs, self.binarize_weight(), *geometry)
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return y.to(self.weight.dtype)


class _BinaryDense(_BinaryLayer):
    """A layer that multiplies each token or point by the same matrix."""

    # tokens (..., C), not points (N, C, L)
    channels_last = False

    def _float_product(self, signs: Tensor) -> Tensor:
        """The float layer's, with its real weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Multiply.

        Args:
            x (Tensor): Real-valued, of the float layer's input shape.

        Returns:
            Tensor: Of the float layer's output shape, in the dtype of the
            weight, also under autocast.
        """
        signs = self.binarize_input(self.at_least_float32(x))
        if not self.binary_weight:
            return self._float_product(signs.to(self.weight.dtype))
        weight = self.binarize_weight()
        y = binary_conv2d(
            as_pixels(signs, self.channels_last),
            weight.view(*weight.shape[:2], 1, 1))
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return from_pixels(y, signs, self.channels_last).to(self.weight.dtype)


class BinaryLinear(_BinaryDense, nn.Linear):
    """Base of the 1-bit linear layers, as :class:`BinaryConv2d`.

    Args:
        *args: As for :class:`torch.nn.Linear`.
        zero_as (str): As for :class:`BinaryConv2d`.
        binary_weight (bool): As for :class:`BinaryConv2d`.
        **kwargs: As for :class:`torch.nn.Linear`.

    Raises:
        ValueError: On an unknown ``zero_as``.
    """

    channels_last = True

    def _float_product(self, signs: Tensor) -> Tensor:
        return F.linear(signs, self.weight, self.bias)


class BinaryConv1d(_BinaryDense, nn.Conv1d):
    """Base of the 1-bit layers that all points of a cloud share.

    From (N, in_channels, L) to (N, out_channels, L), otherwise as
    :class:`BinaryLinear`. Arguments are those of :class:`torch.nn.Conv1d`
    with ``kernel_size=1``.

    Raises:
        ValueError: On an unknown ``zero_as``; on a kernel of another size, a
            stride, groups or padding.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        geometry = self.kernel_size + self.stride + (self.groups, )
        if geometry != (1, 1, 1) or self.padding != (0, ):
            raise ValueError(
                f'{type(self).__name__} is a layer that the points share: '
                'kernel_size, stride and groups must be 1 and padding 0, got '
                f'{self}')

    def _float_product(self, signs: Tensor) -> Tensor:
        return F.conv1d(signs, self.weight, self.bias)
