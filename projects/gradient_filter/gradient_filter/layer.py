"""The layer: an ordinary convolution but for its gradient."""
import torch
import torch.nn as nn
from torch import Tensor

from mmcompress.registry import MODELS
from .function import check_patch, gradient_filter_conv2d, tap_shift, why_not


def why_not_layer(layer: nn.Conv2d, patch: int) -> str | None:
    """Why the gradient of a layer can't be filtered; None if it can."""
    if layer.padding_mode != 'zeros':
        return (f"padding_mode={layer.padding_mode!r}; with 'zeros' it can be "
                'filtered')
    return why_not(layer.kernel_size, layer.stride, layer.padding,
                   layer.dilation, layer.groups,
                   (layer.in_channels, layer.out_channels), patch)


@MODELS.register_module()
class GradientFilterConv2d(nn.Conv2d):
    """Convolution whose gradient is averaged over patches.

    Its output, its parameters and its state dict are those of
    :class:`torch.nn.Conv2d`; the gradients are those of
    :func:`~gradient_filter.gradient_filter_conv2d`. Where no gradient is
    computed, and to ``torch.jit.trace``, it *is* that layer.

    Args:
        *args: As for :class:`torch.nn.Conv2d`.
        patch (int): Side of a patch, in positions of the output ("radius" in
            official configs).
        stride_correction (bool): Whether gradients are divided by the stride
            of both axes; officially they are not.
        **kwargs: As for :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: If the gradient of such a convolution can't be filtered,
            or in ``forward``, if the input is no batch.
    """

    def __init__(self,
                 *args,
                 patch: int = 2,
                 stride_correction: bool = True,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.patch = check_patch(patch)
        self.stride_correction = stride_correction
        reason = why_not_layer(self, patch)
        if reason is not None:
            raise ValueError(f'GradientFilterConv2d: {reason}')

    @property
    def path(self) -> str:
        """``'A'``, or ``'B'`` where the taps stay apart."""
        return 'B' if any(tap_shift(self.dilation, self.patch)) else 'A'

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x (Tensor): Shape (N, in_channels, X_h, X_w).

        Returns:
            Tensor: Shape (N, out_channels, h, w).
        """
        # what is traced is exported or counted, and needs no gradient
        if not torch.is_grad_enabled() or torch.jit.is_tracing():
            return super().forward(x)
        return gradient_filter_conv2d(x, self.weight, self.bias, self.stride,
                                      self.padding, self.dilation, self.groups,
                                      self.patch, self.stride_correction)

    def extra_repr(self) -> str:
        """As of a convolution, and the patch."""
        return f'{super().extra_repr()}, patch={self.patch}'


def filter_gradient(layer: nn.Conv2d,
                    patch: int,
                    stride_correction: bool = True) -> None:
    """Let a convolution compute its gradient by patches, in place.

    The layer stays the same object with the same parameters, so that what
    refers to them (an optimizer, DDP, an average of the weights, a layer that
    shares them, hooks) goes on.

    Args:
        layer (nn.Conv2d): Has the forward of that class.
        patch (int): Side of a patch.
        stride_correction (bool): See :class:`GradientFilterConv2d`.
    """
    layer.__class__ = GradientFilterConv2d
    layer.patch = check_patch(patch)
    layer.stride_correction = stride_correction
