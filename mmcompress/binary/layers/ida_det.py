"""The 1-bit convolution of IDa-Det: signs times a learnt scale."""
import torch
import torch.nn as nn
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.registry import MODELS
from .base import BinaryConv2d, check_choice
from .sign import binary_sign


class _IDaDetWeight(torch.autograd.Function):

    @staticmethod
    def forward(ctx, weight: Tensor, scale: Tensor, bin: float,
                recon_weight: float, zero_as: str, variant: str) -> Tensor:
        signs = bin * binary_sign(weight, zero_as)
        ctx.save_for_backward(weight, scale, signs)
        ctx.recon_weight = recon_weight
        ctx.variant = variant
        return signs * scale.abs()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, scale, signs = ctx.saved_tensors
        error = ctx.recon_weight * (weight - signs * scale.abs())
        grad_weight = grad * scale.abs() + error
        grad_scale = (grad * weight - error * signs).sum(
            dim=(1, 2, 3), keepdim=True)
        if ctx.variant == 'fixed':
            grad_scale = torch.where(scale < 0, -grad_scale, grad_scale)
        return grad_weight, grad_scale, None, None, None, None


def ida_det_weight(weight: Tensor,
                   scale: Tensor,
                   bin: float = 0.02,
                   recon_weight: float = 1e-4,
                   zero_as: str = 'neg',
                   variant: str = 'fixed') -> Tensor:
    """Binarise a weight: ``bin * sign(weight) * |scale|``.

    With ``G`` the gradient of the result and ``e`` the weight minus the
    result, the gradients are defined as

    - weight: ``G * |scale| + recon_weight * e``,
    - scale: the sum over each output channel of ``G * weight - recon_weight *
      e * bin * sign(weight)``, times ``sign(scale)`` when ``variant`` is
      ``'fixed'``.

    The terms with ``e`` are the gradient of ``recon_weight / 2 * |e|**2``,
    the paper's reconstruction loss.

    Args:
        weight (Tensor): Shape (C_out, C_in, k, k).
        scale (Tensor): Shape (C_out, 1, 1, 1).
        bin (float): The fixed part of the scale.
        recon_weight (float): Weight of the reconstruction loss.
        zero_as (str): As in :func:`binary_sign`.
        variant (str): ``'fixed'`` or ``'official'``.

    Returns:
        Tensor: Shape (C_out, C_in, k, k).
    """
    return _IDaDetWeight.apply(weight, scale, bin, recon_weight, zero_as,
                               variant)


@MODELS.register_module()
class IDaDetConv2d(BinaryConv2d, nn.Conv2d):
    """1-bit convolution of IDa-Det (Xu et al., ECCV 2022, arXiv:2210.03477).

    ``y = conv2d(sign(x), bin * sign(weight) * |scale|) + bias``. The gradient
    of ``sign(x)`` is Bi-Real's, those of ``weight`` and ``scale`` are in
    :func:`ida_det_weight`. Zero padding stays zero, it is not binarised.

    Arguments and attributes are those of :class:`torch.nn.Conv2d`, the
    state dict has ``scale`` in addition. A checkpoint of a float convolution
    loads: ``scale`` becomes ``mean(|weight|) / bin`` of each output channel,
    a missing ``bias`` 0. The same ``scale`` is the initial one.

    Differs from the official code: zeros become -1 (``zero_as``); the gradient
    of ``scale`` has the sign that its absolute value asks for (``variant``);
    ``scale`` does not start from a normal distribution, half of which is
    negative.

    Args:
        *args: As for :class:`torch.nn.Conv2d`.
        bin (float): The fixed part of the scale.
        recon_weight (float): Weight of the reconstruction of the weight by
            its 1-bit version. It acts in the gradient only.
        zero_as (str): ``'neg'``: bit = ``x > 0``. ``'zero'``: zeros stay 0,
            which no bit can hold, as in the official training.
        variant (str): ``'fixed'``, or ``'official'`` for the gradient of
            ``scale`` as released, which lacks ``sign(scale)``.
        binary_weight (bool): False: only the input is binarised, the weight
            stays real and there is no ``scale``; the first step of the
            two-step pretraining. Its checkpoint loads into a 1-bit layer like
            a float one.
        **kwargs: As for :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: On an unknown ``zero_as`` or ``variant``, ``bin <= 0``,
            a padding mode other than ``'zeros'``, or padding given as text.
    """

    def __init__(self,
                 *args,
                 bin: float = 0.02,
                 recon_weight: float = 1e-4,
                 variant: str = 'fixed',
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        check_choice('variant', variant, ('fixed', 'official'))
        if bin <= 0:
            raise ValueError(f'bin must be positive, got {bin}')
        self.bin = bin
        self.recon_weight = recon_weight
        self.variant = variant
        scale = nn.Parameter(self._matching_scale(self.weight))
        self.register_parameter('scale', scale if self.binary_weight else None)

    def _matching_scale(self, weight: Tensor) -> Tensor:
        mean = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        return mean / self.bin

    def init_weights(self) -> None:
        """Match the scale to the weight.

        mmengine calls this after the weight's own initialisation.
        """
        if self.binary_weight:
            self.scale.data.copy_(self._matching_scale(self.weight))

    def initial_state(self, weight: Tensor) -> dict[str, Tensor]:
        """A scale that matches the weight."""
        if not self.binary_weight:
            return {}
        return dict(scale=self._matching_scale(weight))

    def binarize_weight(self) -> Tensor:
        """See :func:`ida_det_weight`."""
        return ida_det_weight(
            self.at_least_float32(self.weight),
            self.at_least_float32(self.scale), self.bin, self.recon_weight,
            self.zero_as, self.variant)

    def alpha(self) -> Tensor:
        """``bin * |scale|``."""
        return self.bin * self.at_least_float32(self.scale).abs().flatten()
