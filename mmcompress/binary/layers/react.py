"""The 1-bit convolution of ReActNet: a learnt shift before the sign."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import row_of
from mmcompress.registry import MODELS
from .base import BinaryConv2d
from .bireal import bireal_weight
from .sign import bireal_sign, mean_magnitude


class Shift(nn.Module):
    """Learnable shift of each channel, initially 0.

    Args:
        channels (int): Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Add the shift to a tensor of shape (N, C, H, W)."""
        return x + self.bias


@MODELS.register_module()
class RSign(Shift):
    """Sign with a learnable threshold per channel: ``sign(x + shift)``.

    The gradient is that of :func:`bireal_sign` at ``x + shift``, for the
    input and the shift.

    Args:
        channels (int): Channels of the input.
        zero_as (str): As in :func:`binary_sign`.
    """

    def __init__(self, channels: int, zero_as: str = 'neg') -> None:
        super().__init__(channels)
        self.zero_as = zero_as

    def forward(self, x: Tensor) -> Tensor:
        """Binarise a tensor of shape (N, C, H, W)."""
        return bireal_sign(super().forward(x), self.zero_as)


@MODELS.register_module()
class RPReLU(nn.Module):
    """PReLU between two learnable shifts: ``prelu(x + shift) + shift'``.

    Slope (initially 0.25) and shifts (0) are per channel. The names in the
    state dict are those of the official blocks, ``move1.bias``,
    ``prelu.weight`` and ``move2.bias``.

    Args:
        channels (int): Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.move1 = Shift(channels)
        self.prelu = nn.PReLU(channels)
        self.move2 = Shift(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor of shape (N, C, H, W)."""
        return self.move2(self.prelu(self.move1(x)))


@row_of(RPReLU)
def _row(act: RPReLU) -> list[nn.Module]:
    return [act.move1, act.prelu, act.move2]


@MODELS.register_module()
class ReActConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of ReActNet (Liu et al., ECCV 2020,
    arXiv:2003.03488).

    ``y = conv2d(rsign(x), mean(|weight|) * sign(weight)) + bias``: that of
    Bi-Real Net, see :func:`bireal_weight`, with :class:`RSign` in place of the
    sign. Its shift is ``move0.bias`` in the state dict.

    Arguments and checkpoints are those of :class:`BinaryConv2d`. The official
    networks have no bias.

    Differs from the official code: zeros become -1 (``zero_as``).

    Args:
        *args: As for :class:`BinaryConv2d`.
        shift (bool): False leaves out the shift, where the block has one.
        **kwargs: As for :class:`BinaryConv2d`.
    """

    def __init__(self, *args, shift: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.move0 = RSign(self.in_channels, self.zero_as) if shift else None

    def binarize_input(self, x: Tensor) -> Tensor:
        """``rsign(x)``."""
        if self.move0 is None:
            return bireal_sign(x, self.zero_as)
        return self.move0(x)

    def binarize_weight(self) -> Tensor:
        """See :func:`bireal_weight`."""
        return bireal_weight(self.at_least_float32(self.weight), self.zero_as)

    def weight_scale(self) -> Tensor:
        """``mean(|weight|)``."""
        return mean_magnitude(self.at_least_float32(self.weight)).flatten()

    def threshold(self) -> Tensor:
        """Minus the shift: ``x + shift > 0`` where ``x > -shift``."""
        if self.move0 is None:
            return super().threshold()
        return -self.move0.bias.flatten()

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """No shift."""
        if self.move0 is None:
            return {}
        return {'move0.bias': torch.zeros_like(self.move0.bias)}
