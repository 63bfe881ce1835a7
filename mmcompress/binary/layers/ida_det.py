"""The 1-bit convolution of IDa-Det: signs times a learnt scale."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmcompress.registry import MODELS
from .binary_conv import binary_conv2d
from .sign import binary_sign, bireal_sign


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
class IDaDetConv2d(nn.Conv2d):
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
                 zero_as: str = 'neg',
                 variant: str = 'fixed',
                 binary_weight: bool = True,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if zero_as not in ('neg', 'zero'):
            raise ValueError(f"zero_as must be 'neg' or 'zero', got {zero_as}")
        if variant not in ('fixed', 'official'):
            raise ValueError(
                f"variant must be 'fixed' or 'official', got {variant}")
        if bin <= 0:
            raise ValueError(f'bin must be positive, got {bin}')
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            raise ValueError(
                'a 1-bit convolution pads with zeros, by a given number; got '
                f'padding={self.padding!r}, '
                f'padding_mode={self.padding_mode!r}')
        self.bin = bin
        self.recon_weight = recon_weight
        self.zero_as = zero_as
        self.variant = variant
        self.binary_weight = binary_weight
        scale = nn.Parameter(self._matching_scale(self.weight))
        self.register_parameter('scale', scale if binary_weight else None)

    def _matching_scale(self, weight: Tensor) -> Tensor:
        mean = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        return mean / self.bin

    def init_weights(self) -> None:
        """Match the scale to the weight.

        mmengine calls this after the weight's own initialisation.
        """
        if self.binary_weight:
            self.scale.data.copy_(self._matching_scale(self.weight))

    def _load_from_state_dict(self, state_dict: dict, prefix: str,
                              *args) -> None:
        weight = state_dict.get(f'{prefix}weight')
        if weight is not None and weight.dim() == 4:
            if self.binary_weight:
                state_dict.setdefault(f'{prefix}scale',
                                      self._matching_scale(weight))
            if self.bias is not None:
                state_dict.setdefault(f'{prefix}bias',
                                      torch.zeros_like(self.bias))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): Real-valued, shape (N, in_channels, H, W).

        Returns:
            Tensor: Shape (N, out_channels, H_out, W_out), in the dtype of the
            weight, also under autocast.
        """
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        signs = bireal_sign(x.to(dtype), self.zero_as)
        geometry = self.stride, self.padding, self.dilation, self.groups
        if not self.binary_weight:
            return F.conv2d(
                signs.to(self.weight.dtype), self.weight, self.bias, *geometry)
        weight = ida_det_weight(
            self.weight.to(dtype), self.scale.to(dtype), self.bin,
            self.recon_weight, self.zero_as, self.variant)
        y = binary_conv2d(signs, weight, *geometry)
        if self.bias is not None:
            y = y + self.bias.view(-1, 1, 1)
        return y.to(self.weight.dtype)
