"""The 1-bit convolution of ReBNN: weights that resist needless sign flips."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import add_gradient
from mmcompress.registry import MODELS
from .base import BinaryConv2d, check_choice
from .scaled_sign import reconstruction_gradients, scaled_sign
from .sign import binary_sign


def flip_ratio(prev_sign: Tensor, signs: Tensor) -> Tensor:
    """Fraction of the weights of each output channel whose sign changed.

    Args:
        prev_sign (Tensor): Before, shape (C_out, C_in, k, k). Zeros are not
            known and don't count.
        signs (Tensor): Now, same shape.

    Returns:
        Tensor: In [0, 1], shape (C_out, 1, 1, 1), dtype of ``signs``.
    """
    flipped = (prev_sign != 0) & (prev_sign != signs)
    return flipped.to(signs.dtype).mean(dim=(1, 2, 3), keepdim=True)


def balance(flip_ratio: Tensor, largest_grad: Tensor, variant: str,
            gamma_clamp: tuple[float, float]) -> Tensor:
    """The paper's gamma: how strongly a channel is held to its 1-bit version.

    Args:
        flip_ratio (Tensor): Shape (C_out, 1, 1, 1).
        largest_grad (Tensor): Largest ``|gradient|`` of the 1-bit weight, same
            shape.
        variant (str): ``'paper'``: the product of both. ``'clamped'``: the
            same, within ``gamma_clamp``. ``'official'``: the upper limit.
        gamma_clamp (tuple[float, float]): Lower and upper limit.

    Returns:
        Tensor: Shape (C_out, 1, 1, 1).
    """
    gamma = flip_ratio * largest_grad
    if variant == 'paper':
        return gamma
    if variant == 'official':
        return torch.full_like(gamma, gamma_clamp[1])
    return gamma.clamp(*gamma_clamp)


@MODELS.register_module()
class ReBNNConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of ReBNN (Xu et al., AAAI 2023, arXiv:2302.00956).

    ``y = conv2d(sign(x), w_hat) + bias``, ``w_hat = bin * sign(weight) *
    |scaling_factor|``. The gradient of ``sign(x)`` is :func:`bireal_sign`'s.
    With ``G`` the gradient of ``w_hat`` and ``e = weight - w_hat``, those of
    the parameters are, summed over each output channel,

    - weight: ``G * |s| + gamma * e``,
    - s, the scaling factor: ``sign(s) * sum(G * weight - gamma * e * bin *
      sign(weight))``.

    ``gamma`` is :func:`balance` of the fraction of the channel's signs that
    the last optimizer step flipped and of ``max(|G|)``. The terms with gamma
    are the gradient of ``gamma / 2 * |e|**2``, the paper's reconstruction
    loss; they are added to the parameters' gradients once per optimizer step,
    right before it. So they don't depend on AMP's loss scale, the number of
    accumulated batches or the number of calls of the layer in a forward.

    The state dict has ``scaling_factor`` and ``prev_sign``, the signs before
    the last step, in addition to that of :class:`BinaryConv2d`. With a float
    checkpoint the scaling factor keeps its values, initially from a normal
    distribution, and no sign has flipped.

    Differs from the official code: zeros become -1 (``zero_as``); gamma, which
    is constant there, follows the paper within the limits of the code
    (``variant``), and signs are compared with the true previous ones.

    Args:
        *args: As for :class:`BinaryConv2d`.
        bin (float): The fixed part of the scale.
        variant (str): ``'clamped'``, ``'paper'`` or ``'official'``, see
            :func:`balance`.
        gamma_clamp (tuple[float, float]): Limits of gamma.
        **kwargs: As for :class:`BinaryConv2d`.

    Raises:
        ValueError: On an unknown ``variant``, ``bin <= 0``, or limits that are
            not ``0 <= lower <= upper``.
    """

    def __init__(self,
                 *args,
                 bin: float = 0.02,
                 variant: str = 'clamped',
                 gamma_clamp: tuple[float, float] = (1e-5, 2e-4),
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('variant', variant, ('clamped', 'paper', 'official'))
        if bin <= 0:
            raise ValueError(f'bin must be positive, got {bin}')
        if not 0 <= gamma_clamp[0] <= gamma_clamp[1]:
            raise ValueError('gamma_clamp must be (lower, upper) with 0 <= '
                             f'lower <= upper, got {gamma_clamp}')
        self.bin = bin
        self.variant = variant
        self.gamma_clamp = gamma_clamp
        self.register_parameter('scaling_factor', None)
        self.register_buffer('prev_sign', None)
        if self.binary_weight:
            self.scaling_factor = nn.Parameter(
                torch.randn(self.out_channels, 1, 1, 1))
            self.prev_sign = torch.zeros_like(self.weight, dtype=torch.int8)

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """The scaling factor as it is, and unknown signs."""
        if not self.binary_weight:
            return {}
        return dict(
            scaling_factor=self.scaling_factor.detach(),
            prev_sign=torch.zeros_like(self.prev_sign))

    def gamma(self) -> Tensor:
        """:func:`balance` for the gradient that the weight has now.

        Returns:
            Tensor: Shape (C_out, 1, 1, 1).
        """
        signs = binary_sign(
            self.at_least_float32(self.weight.detach()), self.zero_as)
        # the weight's gradient is that of the 1-bit weight times |scale|
        largest = self.weight.grad.abs().amax(dim=(1, 2, 3), keepdim=True)
        alpha = self.scaling_factor.detach().abs()
        largest = torch.where(alpha > 0, largest / alpha, 0)
        return balance(
            flip_ratio(self.prev_sign, signs), largest, self.variant,
            self.gamma_clamp)

    def before_step(self) -> None:
        """Add the gradient of the reconstruction, and keep the signs."""
        grads = reconstruction_gradients(
            self.at_least_float32(self.weight),
            self.at_least_float32(self.scaling_factor), self.gamma(), self.bin,
            self.zero_as)
        add_gradient(self.weight, grads[0])
        add_gradient(self.scaling_factor, grads[1])
        self.prev_sign.copy_(binary_sign(self.weight, self.zero_as))

    def binarize_weight(self) -> Tensor:
        """``bin * sign(weight) * |scaling_factor|``."""
        return scaled_sign(
            self.at_least_float32(self.weight),
            self.at_least_float32(self.scaling_factor), self.bin, self.zero_as)

    def weight_scale(self) -> Tensor:
        """``bin * |scaling_factor|``."""
        scale = self.at_least_float32(self.scaling_factor)
        return self.bin * scale.abs().flatten()
