"""The products that 1-bit layers share: signs with scaled signs."""
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

from mmcompress.pixels import as_pixels, from_pixels


class _BinaryConv2d(torch.autograd.Function):

    @staticmethod
    def forward(ctx, signs: Tensor, weight: Tensor, *geometry) -> Tensor:
        ctx.save_for_backward(signs, weight)
        ctx.geometry = geometry
        alpha = weight.abs().amax(dim=(1, 2, 3)).view(-1, 1, 1)
        # half precision holds integers up to 2048 only, bfloat16 up to 256
        with torch.autocast(signs.device.type, enabled=False):
            count = F.conv2d(signs, weight.sign(), None, *geometry)
        return count * alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        signs, weight = ctx.saved_tensors
        grad_signs = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_signs = conv2d_input(signs.shape, weight, grad, *ctx.geometry)
        if ctx.needs_input_grad[1]:
            grad_weight = conv2d_weight(signs, weight.shape, grad,
                                        *ctx.geometry)
        return grad_signs, grad_weight, None, None, None, None


def binary_conv2d(signs: Tensor,
                  weight: Tensor,
                  stride: int | tuple[int, int] = 1,
                  padding: int | tuple[int, int] = 0,
                  dilation: int | tuple[int, int] = 1,
                  groups: int = 1) -> Tensor:
    """Convolve signs with scaled signs, exact in the integers.

    Equals ``F.conv2d(signs, weight, ...)``, and so do its gradients. But it
    counts with signs only, which is exact in float32, and multiplies by the
    scale afterwards, as packed inference does. Padding is zero, not a sign.

    Args:
        signs (Tensor): -1, 0 or +1, shape (N, C, H, W), at least float32.
        weight (Tensor): Shape (C_out, C / groups, k, k), same dtype. Each
            output channel holds the values -alpha, 0 and +alpha of one
            ``alpha``.

    Returns:
        Tensor: Shape (N, C_out, H_out, W_out).
    """
    return _BinaryConv2d.apply(signs, weight, stride, padding, dilation,
                               groups)


def binary_linear(signs: Tensor, weight: Tensor) -> Tensor:
    """Multiply signs by scaled signs, as :func:`binary_conv2d`.

    Args:
        signs (Tensor): -1, 0 or +1, shape (..., C), at least float32.
        weight (Tensor): Shape (C_out, C), same dtype. Each row holds the
            values -alpha, 0 and +alpha of one ``alpha``.

    Returns:
        Tensor: Shape (..., C_out).
    """
    y = binary_conv2d(as_pixels(signs, True), weight[..., None, None])
    return from_pixels(y, signs, True)
