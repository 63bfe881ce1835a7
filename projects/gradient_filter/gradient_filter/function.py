"""A convolution whose output gradient is averaged over patches.

With a gradient that is constant on each patch, the two convolutions of the
backward pass become products of small matrices.
"""
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.utils import _pair


def check_patch(patch: int) -> int:
    """Refuse what is no side of a patch.

    Raises:
        ValueError: If it is not a whole number from 1 on.
    """
    if type(patch) is not int or patch < 1:
        raise ValueError(f'patch must be a whole number of positions, at '
                         f'least 1, got {patch!r}')
    return patch


class Axis(NamedTuple):
    """How one axis of a convolution is cut into patches.

    Output ``i`` is in patch ``(i + out_offset) // patch``, input ``m`` in
    patch ``(m + in_offset) // side``; there are as many of both.

    Attributes:
        num (int): Number of patches.
        side (int): Of a patch of the input, in pixels.
        in_offset (int): By how much the first one sticks out of the input.
        out_offset (int): By how much the first one sticks out of the output.
    """
    num: int
    side: int
    in_offset: int
    out_offset: int


def cut(in_size: int, out_size: int, stride: int, patch: int) -> Axis:
    """Cut an axis into patches; what is too much sticks out on both sides.

    Args:
        in_size (int): Pixels of the input.
        out_size (int): Positions of the output.
        stride (int): Of the convolution.
        patch (int): Side of a patch, in positions of the output.
    """
    num = -(-out_size // patch)
    side = patch * stride
    # the last pixels may be where the kernel never comes
    too_much = max(num * side - in_size, 0)
    return Axis(num, side, (too_much + 1) // 2,
                (num * patch - out_size + 1) // 2)


def tap_shift(dilation: tuple[int, int], patch: int) -> tuple[int, int]:
    """How many patches apart the taps of a kernel count as.

    Args:
        dilation (tuple[int, int]): Of the kernel; the first decides.
        patch (int): Side of a patch, in positions of the output.

    Returns:
        tuple[int, int]: Zeros where all taps are taken to see the same patch
        (path A), as long as the dilation is 1 or less than the patch.
    """
    if dilation[0] == 1 or dilation[0] < patch:
        return 0, 0
    return dilation[0] // patch, dilation[1] // patch


def _input_means(x: Tensor, rows: Axis, cols: Axis) -> Tensor:
    """Sum over each patch of the input, divided by the size of a whole one.

    In half precision the sum itself could overflow.

    Args:
        x (Tensor): Shape (N, C, X_h, X_w).

    Returns:
        Tensor: Shape (N, C, P_h, P_w), of the same dtype.
    """
    sides = rows.side, cols.side
    offsets = rows.in_offset, cols.in_offset
    if any(2 * offset > side for offset, side in zip(offsets, sides)):
        # more than the pooling itself can pad
        x = F.pad(x, [
            size for axis, length in ((cols, x.shape[3]), (rows, x.shape[2]))
            for size in (axis.in_offset,
                         axis.num * axis.side - length - axis.in_offset)
        ])
        offsets = 0, 0
    return F.avg_pool2d(x, sides, sides, offsets)


def _output_means(grad: Tensor, rows: Axis, cols: Axis, patch: int) -> Tensor:
    """Mean of each patch of the output, over the positions that exist.

    Args:
        grad (Tensor): Shape (N, O, h, w).

    Returns:
        Tensor: Shape (N, O, P_h, P_w), of the same dtype.
    """
    return F.avg_pool2d(
        grad,
        patch,
        patch, (rows.out_offset, cols.out_offset),
        count_include_pad=False)


def _spread(z: Tensor, rows: Axis, cols: Axis, size: torch.Size) -> Tensor:
    """Give every pixel of the input what its patch has.

    Args:
        z (Tensor): Shape (N, C, P_h, P_w).
        size (torch.Size): ``(X_h, X_w)``.

    Returns:
        Tensor: Shape (N, C, X_h, X_w).
    """
    n, c, p_h, p_w = z.shape
    # one row of pixels, which is copied as a whole
    full = z.repeat_interleave(cols.side, 3)[:, :, :, None]
    full = full.expand(-1, -1, -1, rows.side,
                       -1).reshape(n, c, p_h * rows.side, p_w * cols.side)
    full = full[:, :, rows.in_offset:rows.in_offset + size[0],
                cols.in_offset:cols.in_offset + size[1]]
    missing = size[0] - full.shape[2], size[1] - full.shape[3]
    if any(missing):
        full = F.pad(full, (0, missing[1], 0, missing[0]))
    return full


def _at_least_float(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Geometry(NamedTuple):
    """What the backward pass knows of a convolution.

    Attributes:
        rows (Axis): Patches along the height.
        cols (Axis): Patches along the width.
        patch (int): Side of a patch, in positions of the output.
        shift (tuple[int, int]): See :func:`tap_shift`.
        groups (int): Of the convolution.
        correction (int): What the gradients are divided by.
    """
    rows: Axis
    cols: Axis
    patch: int
    shift: tuple[int, int]
    groups: int
    correction: int


def _weight_gradient(grad: Tensor, means: Tensor, geometry: Geometry,
                     size: torch.Size) -> Tensor:
    """The same for all taps of a kernel, so its shape never changes.

    Args:
        grad (Tensor): Means over the output's patches, (N, O, P_h, P_w).
        means (Tensor): Of the input's patches, shape (N, C, P_h, P_w).
        size (torch.Size): Of the weight.
    """
    means = _at_least_float(means)
    if geometry.groups == 1:
        product = torch.einsum('nohw,nchw->oc', grad, means)
    else:
        product = (grad * means).sum((0, 2, 3))[:, None]
    # the means were sums, but for the size of a patch
    side = geometry.rows.side * geometry.cols.side
    product = product * (side / geometry.correction)
    return product[:, :, None, None].expand(size)


def _patch_gradient(grad: Tensor, taps: Tensor, geometry: Geometry) -> Tensor:
    """What all pixels of a patch of the input get.

    Args:
        grad (Tensor): Means over the output's patches, (N, O, P_h, P_w).
        taps (Tensor): Shape (O, C / groups, k_h, k_w), or 1 for summed taps.

    Returns:
        Tensor: Shape (N, C, P_h, P_w).
    """
    taps = _at_least_float(taps)
    for axis, shift in zip((2, 3), geometry.shift):
        if not shift:
            taps = taps.sum(axis, keepdim=True)
    return F.conv_transpose2d(
        grad,
        taps / geometry.correction,
        padding=geometry.shift,
        dilation=[max(shift, 1) for shift in geometry.shift],
        groups=geometry.groups)


class _GradientFilter(torch.autograd.Function):

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, dilation, groups, patch,
                stride_correction):
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        rows, cols = (
            cut(x.shape[axis], y.shape[axis], stride[axis - 2], patch)
            for axis in (2, 3))
        shift = tap_shift(dilation, patch)
        correction = stride[0] * stride[1] if stride_correction else 1
        ctx.geometry = Geometry(rows, cols, patch, shift, groups, correction)
        ctx.x_size, ctx.x_dtype = x.shape[2:], x.dtype
        ctx.weight_size, ctx.weight_dtype = weight.shape, weight.dtype
        means = taps = None
        if ctx.needs_input_grad[1]:
            # under autocast, the ordinary convolution keeps y's dtype, too
            means = _input_means(x, rows, cols).to(y.dtype)
        if ctx.needs_input_grad[0]:
            taps = weight if any(shift) else _at_least_float(weight).sum(
                (2, 3), keepdim=True)
        ctx.save_for_backward(means, taps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        geometry = ctx.geometry
        means, taps = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        # what is small is computed in float32 at least
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[2]:
                dtype = torch.promote_types(grad.dtype, torch.float32)
                grad_bias = grad.sum((0, 2, 3), dtype=dtype)
                grad_bias = grad_bias.to(ctx.weight_dtype)
            if taps is None and means is None:
                return None, None, grad_bias, *[None] * 6
            grad = _at_least_float(_output_means(grad, *geometry[:3]))
            if means is not None:
                grad_weight = _weight_gradient(
                    grad, means, geometry,
                    ctx.weight_size).to(ctx.weight_dtype).contiguous()
            if taps is not None:
                z = _patch_gradient(grad, taps, geometry).to(ctx.x_dtype)
                grad_x = _spread(z, *geometry[:2], ctx.x_size)
        return grad_x, grad_weight, grad_bias, *[None] * 6


def why_not(kernel_size: tuple[int, int], stride: tuple[int, int],
            padding: tuple[int, int] | str, dilation: tuple[int, int],
            groups: int, channels: tuple[int, int], patch: int) -> str | None:
    """Why the gradient of a convolution can't be filtered; None if it can.

    Args:
        channels (tuple[int, int]): In and out.
    """
    if groups != 1 and not groups == channels[0] == channels[1]:
        return (f'groups={groups} of {channels[0]} channels in and '
                f'{channels[1]} out; 1 group, or one for each channel in '
                'and out, can be filtered')
    if padding != 'same':
        pads = (0, 0) if padding == 'valid' else padding
        for k, s, p, d in zip(kernel_size, stride, pads, dilation):
            if 2 * p < d * (k - 1) - (s - 1):
                return (f'padding={padding} with kernel_size={kernel_size} '
                        f'and dilation={dilation}: the output is smaller '
                        'than the input over the stride, so that patches of '
                        'both do not lie on each other; "same" padding can '
                        'be filtered')
    if any(tap_shift(dilation, patch)) and tuple(kernel_size) != (3, 3):
        return (f'kernel_size={kernel_size} with dilation={dilation} not less '
                f'than patch={patch}; there, 3x3 can be filtered, others with '
                f'patch={max(dilation) + 1}')
    return None


def gradient_filter_conv2d(x: Tensor,
                           weight: Tensor,
                           bias: Tensor | None = None,
                           stride: int | tuple[int, int] = 1,
                           padding: int | tuple[int, int] | str = 0,
                           dilation: int | tuple[int, int] = 1,
                           groups: int = 1,
                           patch: int = 2,
                           stride_correction: bool = True) -> Tensor:
    r"""Convolve, with a gradient that is cheap and approximate.

    The output is that of :func:`torch.nn.functional.conv2d`. On the way back,
    the gradient :math:`G` of the output is replaced by its means
    :math:`\bar G` over patches of ``patch x patch`` positions. With the sums
    :math:`X` of the input over the pixels that belong to each patch,

    .. math::
        \partial w_{oc\,uv} = \textstyle\sum_{n,p} \bar G_{nop} X_{ncp},\qquad
        \partial x_{nc\,i} = \textstyle\sum_o \bar G_{no\,p(i)}
        \textstyle\sum_{u,v} w_{oc\,uv},

    where :math:`p(i)` is the patch of a pixel. Only :math:`X` and the sums of
    the taps are kept for the backward pass. Where the dilation ``d`` is more
    than 1 and not less than the patch, the taps stay apart, by ``d // patch``
    patches ("path B"), in the gradient of the input; in that of the weight
    they don't. The gradient of the bias is exact.

    Differs from the official rule: with a stride ``s``, both are divided by
    ``s ** 2``, as patches of the input have that many times the pixels that
    a tap sees. ``stride_correction=False`` leaves it out.

    It can be differentiated once.

    Args:
        x (Tensor): Shape (N, C, X_h, X_w).
        weight (Tensor): Shape (O, C / groups, k_h, k_w).
        bias (Tensor | None): Shape (O, ).
        stride (int | tuple[int, int]): As for torch.
        padding (int | tuple[int, int] | str): As for torch.
        dilation (int | tuple[int, int]): As for torch.
        groups (int): 1, or as many as channels in and out.
        patch (int): Side of a patch.
        stride_correction (bool): Whether to divide by the stride.

    Returns:
        Tensor: Shape (N, O, h, w).

    Raises:
        ValueError: If :func:`why_not` says why, or ``patch`` is no side.

    Source: Yang et al., Efficient On-device Training via Gradient Filtering
    (CVPR 2023, 2301.00330), written from its equations.
    """
    check_patch(patch)
    stride, dilation = _pair(stride), _pair(dilation)
    if not isinstance(padding, str):
        padding = _pair(padding)
    channels = weight.shape[1] * groups, weight.shape[0]
    reason = why_not(
        tuple(weight.shape[2:]), stride, padding, dilation, groups, channels,
        patch)
    if x.dim() != 4:
        reason = f'x has the shape {tuple(x.shape)}, which is no batch of maps'
    if reason is not None:
        raise ValueError(f'gradient_filter_conv2d: {reason}')
    return _GradientFilter.apply(x, weight, bias, stride, padding, dilation,
                                 groups, patch, stride_correction)
