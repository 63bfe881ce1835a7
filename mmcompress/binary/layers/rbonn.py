"""The 1-bit convolution of RBONN: filters that lag behind are sent back."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.lowbit import add_gradient
from mmcompress.registry import MODELS
from .base import BinaryConv2d, check_choice
from .scaled_sign import reconstruction_gradients, scaled_sign


def _rank(values: Tensor) -> Tensor:
    return values.argsort(stable=True).argsort()


def density_indicator(weight: Tensor,
                      scale: Tensor,
                      tau: float = 0.6,
                      variant: str = 'rank') -> Tensor:
    """Which filters are corrected: dense in their scale but not in themselves.

    ``'rank'``, with ranks from 0, in ascending order, and ``T = int(C_out *
    tau)``: those with ``rank(|scale|) >= T`` and ``rank(sum(|weight|)) < T``.

    ``'official'`` is the released code, which takes the permutation that sorts
    the scales for their ranks and doesn't look at the weight: ``argsort(
    |scale|)[i] < int(C_out * (1 - tau))``. This picks ``1 - tau`` of the
    filters more or less arbitrarily.

    Args:
        weight (Tensor): Shape (C_out, C_in, k, k).
        scale (Tensor): Shape (C_out, 1, 1, 1).
        tau (float): Fraction of filters that are not dense.
        variant (str): ``'rank'`` or ``'official'``.

    Returns:
        Tensor: Bool, shape (C_out, 1, 1, 1).
    """
    alpha = scale.detach().abs().flatten()
    if variant == 'official':
        indicator = alpha.argsort(stable=True) < int(len(alpha) * (1 - tau))
    else:
        threshold = int(len(alpha) * tau)
        density = weight.detach().abs().sum(dim=(1, 2, 3))
        indicator = (_rank(alpha) >= threshold) & (_rank(density) < threshold)
    return indicator.view(-1, 1, 1, 1)


@MODELS.register_module()
class RBONNConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of RBONN (Xu et al., ECCV 2022, arXiv:2209.01542).

    ``y = conv2d(sign(x), w_hat) + bias``, ``w_hat = bin * sign(w~) *
    |scale_factor|``. The gradient of ``sign(x)`` is :func:`bireal_sign`'s. In
    training, ``w~ = weight - u * P * I``: P is the weight's gradient in the
    previous optimizer step, I is :func:`density_indicator`, u is learnt. In
    evaluation ``w~ = weight``. With ``G`` the gradient of ``w_hat`` and ``e =
    w~ - w_hat``, those of the parameters are, summed over each output channel,

    - weight: ``G * |s| + recon_weight * e``,
    - s, the scale factor: ``sign(s) * sum(G * w~ - recon_weight * e * bin *
      sign(w~))``,
    - u: minus the sum of the weight's gradient times ``P * I``.

    The terms with ``recon_weight`` are added once per optimizer step, right
    before it. So they don't depend on AMP's loss scale, the number of
    accumulated batches or the number of calls of the layer in a forward. P is
    kept at the same moment: unscaled, accumulated, reduced and clipped.

    The state dict has ``scale_factor``, ``u`` and ``prev_grad`` in addition to
    that of :class:`BinaryConv2d`; ``prev_grad`` is as large as the weight, and
    is needed to resume only. With a float checkpoint the scale factor keeps
    its values, initially from a normal distribution, and so does u; P is 0.

    Differs from the official code: zeros become -1 (``zero_as``); the
    indicator follows the paper (``variant``). As in that code, the previous
    gradient is sent back, and u may become negative; in the paper it is the
    previous weight, and u can't.

    Args:
        *args: As for :class:`BinaryConv2d`.
        bin (float): The fixed part of the scale.
        recon_weight (float): Weight of the reconstruction of the weight by
            its 1-bit version, the paper's lambda.
        tau (float): See :func:`density_indicator`.
        variant (str): ``'rank'`` or ``'official'``, see
            :func:`density_indicator`.
        u_init (float): Initial value of u.
        **kwargs: As for :class:`BinaryConv2d`.

    Raises:
        ValueError: On an unknown ``variant``, ``bin <= 0``, or ``tau`` outside
            of [0, 1].
    """

    def __init__(self,
                 *args,
                 bin: float = 0.02,
                 recon_weight: float = 1e-4,
                 tau: float = 0.6,
                 variant: str = 'rank',
                 u_init: float = 0.2,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('variant', variant, ('rank', 'official'))
        if bin <= 0:
            raise ValueError(f'bin must be positive, got {bin}')
        if not 0 <= tau <= 1:
            raise ValueError(f'tau must be in [0, 1], got {tau}')
        self.bin = bin
        self.recon_weight = recon_weight
        self.tau = tau
        self.variant = variant
        self.register_parameter('scale_factor', None)
        self.register_parameter('u', None)
        self.register_buffer('prev_grad', None)
        if self.binary_weight:
            scale = torch.randn(self.out_channels, 1, 1, 1)
            self.scale_factor = nn.Parameter(scale)
            self.u = nn.Parameter(torch.full_like(scale, u_init))
            self.prev_grad = torch.zeros_like(self.weight)

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """The scale factor and u as they are, and no previous gradient."""
        if not self.binary_weight:
            return {}
        return dict(
            scale_factor=self.scale_factor.detach(),
            u=self.u.detach(),
            prev_grad=torch.zeros_like(self.prev_grad))

    def correction(self) -> Tensor:
        """``P * I``, shape of the weight."""
        indicator = density_indicator(self.weight, self.scale_factor, self.tau,
                                      self.variant)
        return torch.where(indicator, self.at_least_float32(self.prev_grad), 0)

    def corrected_weight(self) -> Tensor:
        """w~, in evaluation the weight itself."""
        weight = self.at_least_float32(self.weight)
        if not self.training:
            return weight
        return weight - self.at_least_float32(self.u) * self.correction()

    def before_step(self) -> None:
        """Add the gradient of the reconstruction, and keep the weight's."""
        grads = reconstruction_gradients(
            self.corrected_weight(), self.at_least_float32(self.scale_factor),
            self.recon_weight, self.bin, self.zero_as)
        add_gradient(self.weight, grads[0])
        add_gradient(self.scale_factor, grads[1])
        if self.training:
            backtracked = grads[0] * self.correction()
            add_gradient(self.u, -backtracked.sum((1, 2, 3), keepdim=True))
        self.prev_grad.copy_(self.weight.grad)

    def binarize_weight(self) -> Tensor:
        """``bin * sign(w~) * |scale_factor|``."""
        return scaled_sign(self.corrected_weight(),
                           self.at_least_float32(self.scale_factor), self.bin,
                           self.zero_as)

    def weight_scale(self) -> Tensor:
        """``bin * |scale_factor|``."""
        scale = self.at_least_float32(self.scale_factor)
        return self.bin * scale.abs().flatten()
