"""The 1-bit layers of BiDet, whose convolution pads with -1."""
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .base import BinaryConv2d, BinaryLinear, check_choice
from .sign import bireal_sign, clipped_sign, mean_magnitude, straight_sign

_STES = dict(bireal=bireal_sign, clip=clipped_sign)


@MODELS.register_module()
class BiDetConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of BiDet (Wang et al., CVPR 2020, arXiv:2003.03961).

    ``y = conv2d(pad(sign(x)), mean(|weight|) * sign(weight)) + bias``: the
    border is -1, not 0. With ``G`` the gradient of the binarised weight, that
    of the weight is, per output channel, ``G * mean(|weight|) + sign(weight) *
    mean(G * sign(weight))``: the sign passes it unchanged, and the mean is
    differentiated.

    Arguments, state dict and checkpoints are those of :class:`BinaryConv2d`.

    Differs from the official code: zeros become -1 (``zero_as``); a padding
    that isn't square is applied to the right axes.

    Args:
        *args: As for :class:`BinaryConv2d`.
        ste (str): Gradient of ``sign(x)``: ``'bireal'`` for
            :func:`bireal_sign`'s, ``'clip'`` for :func:`clipped_sign`'s.
        **kwargs: As for :class:`BinaryConv2d`.

    Raises:
        ValueError: On an unknown ``ste``.
    """

    pad_value = -1

    def __init__(self, *args, ste: str = 'bireal', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('ste', ste, tuple(_STES))
        self.ste = ste

    def binarize_input(self, x: Tensor) -> Tensor:
        """``sign(x)``."""
        return _STES[self.ste](x, self.zero_as)

    def binarize_weight(self) -> Tensor:
        """``mean(|weight|) * sign(weight)``."""
        weight = self.at_least_float32(self.weight)
        return mean_magnitude(weight) * straight_sign(weight, self.zero_as)

    def weight_scale(self) -> Tensor:
        """``mean(|weight|)``."""
        return mean_magnitude(self.at_least_float32(self.weight)).flatten()


@MODELS.register_module()
class BiDetLinear(BinaryLinear, nn.Linear):
    """1-bit linear layer of BiDet (Wang et al., CVPR 2020, arXiv:2003.03961).

    ``y = linear(sign(x), sign(weight)) + bias``, without a scale. The sign of
    the weight passes the gradient unchanged.

    Args:
        *args: As for :class:`BinaryLinear`.
        ste (str): As for :class:`BiDetConv2d`.
        **kwargs: As for :class:`BinaryLinear`.

    Raises:
        ValueError: On an unknown ``ste``.
    """

    def __init__(self, *args, ste: str = 'bireal', **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('ste', ste, tuple(_STES))
        self.ste = ste

    def binarize_input(self, x: Tensor) -> Tensor:
        """``sign(x)``."""
        return _STES[self.ste](x, self.zero_as)

    def binarize_weight(self) -> Tensor:
        """``sign(weight)``."""
        return straight_sign(self.at_least_float32(self.weight), self.zero_as)

    def weight_scale(self) -> Tensor:
        """1."""
        return self.weight.new_ones(self.out_features)
